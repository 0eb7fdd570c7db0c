// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlainToken} from "./PlainToken.sol";

/// @title FeeOnTransferToken
/// @notice Mock: burns one percent of every transfer, so that less arrives than was sent.
contract FeeOnTransferToken is PlainToken {
    /// @param decimals_ Decimals that it states.
    constructor(uint8 decimals_) PlainToken(decimals_) {}

    /// @dev Takes the fee between two accounts; a mint and a burn are free.
    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = from == address(0) || to == address(0) ? 0 : amount / 100;
        if (fee != 0) super._update(from, address(0), fee);
        super._update(from, to, amount - fee);
    }
}
