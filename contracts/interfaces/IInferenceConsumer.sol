// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title IInferenceConsumer
/// @notice What a contract implements to be called back with the answer to a request that it made itself.
interface IInferenceConsumer {
    /// @notice Delivers an answer.
    /// @dev Called by the coordinator with the gas that the request paid for, exactly that in a report and no less in a
    /// retry. A revert does not undo the fulfilment; it is recorded, and anyone may have the callback retried. Check
    /// that the caller is the coordinator.
    /// @param requestId Request that is answered.
    /// @param resultCid CID of the full result.
    /// @param answer Compact answer; see `ClassificationAnswer` and `SegmentationAnswer`.
    function fulfillInference(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) external;
}
