// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlainToken} from "../../../contracts/mocks/PlainToken.sol";

/// @notice A token that takes holdings away, as one that rebases downwards does. It leaves the coordinator short in this
/// token, and must not in any other.
contract DwindlingToken is PlainToken {
    constructor(uint8 decimals_) PlainToken(decimals_) {}

    function dwindle(address account, uint256 amount) external {
        _burn(account, amount);
    }
}
