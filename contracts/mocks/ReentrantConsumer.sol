// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "./AskingMock.sol";

/// @title ReentrantConsumer
/// @notice Mock: makes a prepared call on the coordinator whenever it is called back or sent ether.
contract ReentrantConsumer is AskingMock {
    /// @notice Number of times that the prepared call was tried.
    uint256 public tries;
    /// @notice Number of times that it went through.
    uint256 public breaches;

    bytes private _attack;
    uint256 private _value;

    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) AskingMock(coordinator_) {}

    /// @notice Attacks.
    receive() external payable override {
        _strike();
    }

    /// @notice Sets the call that is tried.
    /// @param attack Calldata for the coordinator.
    /// @param value Wei that goes with it.
    function prepare(bytes calldata attack, uint256 value) external {
        _attack = attack;
        _value = value;
    }

    /// @notice Attacks.
    function fulfillInference(bytes32, bytes calldata, bytes calldata) external {
        _strike();
    }

    /// @dev Tries the prepared call and counts.
    function _strike() private {
        ++tries;
        // solhint-disable-next-line avoid-low-level-calls
        (bool success,) = address(coordinator).call{value: _value}(_attack);
        if (success) ++breaches;
    }
}
