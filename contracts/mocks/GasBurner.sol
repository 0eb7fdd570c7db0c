// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "./AskingMock.sol";

/// @title GasBurner
/// @notice Mock: burns all the gas it is given, in its callback and when it is sent ether.
contract GasBurner is AskingMock {
    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) AskingMock(coordinator_) {}

    /// @notice Burns all gas.
    receive() external payable override {
        _burn();
    }

    /// @notice Burns all gas.
    function fulfillInference(bytes32, bytes calldata, bytes calldata) external pure {
        _burn();
    }

    /// @dev An invalid instruction takes all the gas of the call.
    function _burn() private pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            invalid()
        }
    }
}
