// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "./AskingMock.sol";

/// @title ReturnBomb
/// @notice Mock: reverts with as much data as its gas allows; a caller that copies it pays for it.
contract ReturnBomb is AskingMock {
    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) AskingMock(coordinator_) {}

    /// @notice Reverts with half a megabyte.
    function fulfillInference(bytes32, bytes calldata, bytes calldata) external pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            revert(0, 524288)
        }
    }
}
