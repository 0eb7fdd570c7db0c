// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "./AskingMock.sol";

/// @title RecordingConsumer
/// @notice Mock: remembers what it was called back with, and the gas it had.
contract RecordingConsumer is AskingMock {
    /// @notice Number of callbacks.
    uint256 public calls;
    /// @notice Gas left when the last callback began.
    uint256 public gasAtEntry;
    /// @notice Request of the last callback.
    bytes32 public requestId;
    /// @notice Result CID of the last callback.
    bytes public resultCid;
    /// @notice Answer of the last callback.
    bytes public answer;

    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) AskingMock(coordinator_) {}

    /// @notice Remembers its arguments.
    /// @param requestId_ Request that is answered.
    /// @param resultCid_ CID of the full result.
    /// @param answer_ Compact answer.
    function fulfillInference(bytes32 requestId_, bytes calldata resultCid_, bytes calldata answer_) external {
        gasAtEntry = gasleft();
        ++calls;
        requestId = requestId_;
        resultCid = resultCid_;
        answer = answer_;
    }
}
