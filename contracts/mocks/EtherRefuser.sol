// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {EmptyConsumer} from "./EmptyConsumer.sol";

/// @title EtherRefuser
/// @notice Mock: takes no ether.
contract EtherRefuser is EmptyConsumer {
    /// @notice No ether is taken.
    error NoEther();

    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) EmptyConsumer(coordinator_) {}

    /// @notice Refuses ether.
    receive() external payable override {
        revert NoEther();
    }
}
