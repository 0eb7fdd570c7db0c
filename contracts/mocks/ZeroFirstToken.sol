// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {NoReturnToken} from "./NoReturnToken.sol";

/// @title ZeroFirstToken
/// @notice Mock: a token that changes an allowance only from zero or to zero, lest both be spent.
contract ZeroFirstToken is NoReturnToken {
    /// @notice The account allows something already.
    error AllowanceNotZero(address account, address spender, uint256 allowed);

    /// @param decimals_ Decimals that it states.
    constructor(uint8 decimals_) NoReturnToken(decimals_) {}

    /// @inheritdoc NoReturnToken
    function approve(address spender, uint256 amount) public override {
        uint256 allowed = allowance[msg.sender][spender];
        if (amount != 0 && allowed != 0) revert AllowanceNotZero(msg.sender, spender, allowed);
        super.approve(spender, amount);
    }
}
