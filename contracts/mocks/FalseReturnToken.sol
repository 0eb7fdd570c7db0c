// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlainToken} from "./PlainToken.sol";

/// @title FalseReturnToken
/// @notice Mock: once it is told to fail, its transfers move nothing and return false instead of reverting.
contract FalseReturnToken is PlainToken {
    /// @notice Whether transfers fail.
    bool public failing;

    /// @param decimals_ Decimals that it states.
    constructor(uint8 decimals_) PlainToken(decimals_) {}

    /// @notice Makes transfers fail, or not.
    /// @param failing_ Whether they fail.
    function setFailing(bool failing_) external {
        failing = failing_;
    }

    /// @notice Sends tokens, or returns false.
    /// @param to Account that receives them.
    /// @param amount How much.
    /// @return Whether they were sent.
    function transfer(address to, uint256 amount) public override returns (bool) {
        return !failing && super.transfer(to, amount);
    }

    /// @notice Sends tokens that were allowed, or returns false.
    /// @param from Account that they come from.
    /// @param to Account that receives them.
    /// @param amount How much.
    /// @return Whether they were sent.
    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return !failing && super.transferFrom(from, to, amount);
    }
}
