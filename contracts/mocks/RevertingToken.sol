// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlainToken} from "./PlainToken.sol";

/// @title RevertingToken
/// @notice Mock: once it is told to fail, its transfers revert.
contract RevertingToken is PlainToken {
    /// @notice Whether transfers revert.
    bool public failing;

    /// @notice Transfers are stopped.
    error TransfersStopped();

    /// @param decimals_ Decimals that it states.
    constructor(uint8 decimals_) PlainToken(decimals_) {}

    /// @notice Makes transfers revert, or not.
    /// @param failing_ Whether they revert.
    function setFailing(bool failing_) external {
        failing = failing_;
    }

    /// @dev Reverts, or moves tokens.
    function _update(address from, address to, uint256 amount) internal override {
        if (failing) revert TransfersStopped();
        super._update(from, to, amount);
    }
}
