// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "./AskingMock.sol";

/// @title RevertingConsumer
/// @notice Mock: its callback reverts until it is told to behave.
contract RevertingConsumer is AskingMock {
    /// @notice Whether the callback goes through.
    bool public calm;
    /// @notice Number of callbacks that went through.
    uint256 public calls;

    /// @notice The callback is not wanted.
    error NotNow();

    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) AskingMock(coordinator_) {}

    /// @notice Makes the callback go through, or not.
    /// @param calm_ Whether it goes through.
    function setCalm(bool calm_) external {
        calm = calm_;
    }

    /// @notice Reverts, or counts.
    function fulfillInference(bytes32, bytes calldata, bytes calldata) external {
        if (!calm) revert NotNow();
        ++calls;
    }
}
