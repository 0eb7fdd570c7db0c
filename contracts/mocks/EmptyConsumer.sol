// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "./AskingMock.sol";

/// @title EmptyConsumer
/// @notice Mock: its callback does nothing; with it the coordinator's own gas is measured.
contract EmptyConsumer is AskingMock {
    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) AskingMock(coordinator_) {}

    /// @notice Does nothing.
    // solhint-disable-next-line no-empty-blocks
    function fulfillInference(bytes32, bytes calldata, bytes calldata) external {}
}
