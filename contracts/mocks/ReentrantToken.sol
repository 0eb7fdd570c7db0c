// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";
import {PlainToken} from "./PlainToken.sol";

/// @title ReentrantToken
/// @notice Mock: makes a prepared call on the coordinator whenever it is transferred.
contract ReentrantToken is PlainToken {
    /// @notice The coordinator that is attacked.
    IInferenceCoordinator public immutable coordinator;
    /// @notice Number of times that the prepared call was tried.
    uint256 public tries;
    /// @notice Number of times that it went through.
    uint256 public breaches;

    bytes private _attack;

    /// @param decimals_ Decimals that it states.
    /// @param coordinator_ Coordinator to attack.
    constructor(uint8 decimals_, IInferenceCoordinator coordinator_) PlainToken(decimals_) {
        coordinator = coordinator_;
    }

    /// @notice Sets the call that is tried; with none nothing is tried.
    /// @param attack Calldata for the coordinator.
    function prepare(bytes calldata attack) external {
        _attack = attack;
    }

    /// @dev Moves tokens, then attacks.
    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_attack.length == 0) return;
        ++tries;
        // solhint-disable-next-line avoid-low-level-calls
        (bool success,) = address(coordinator).call(_attack);
        if (success) ++breaches;
    }
}
