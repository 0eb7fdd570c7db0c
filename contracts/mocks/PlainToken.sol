// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title PlainToken
/// @notice Mock: an ERC-20 with ERC-2612 permits that does what the standards say. Anybody may mint.
contract PlainToken is ERC20, ERC20Permit {
    uint8 private immutable _decimals;

    /// @param decimals_ Decimals that it states.
    constructor(uint8 decimals_) ERC20("Plain Token", "PLAIN") ERC20Permit("Plain Token") {
        _decimals = decimals_;
    }

    /// @notice Makes tokens out of nothing.
    /// @param account Account that gets them.
    /// @param amount How much, in the smallest part.
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    /// @notice Decimals.
    /// @return As given at construction.
    function decimals() public view override returns (uint8) {
        return _decimals;
    }
}
