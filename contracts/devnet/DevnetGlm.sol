// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title DevnetGlm
/// @notice Stands for GLM on the local chain that Golem's payments are settled on. Anybody may mint it.
contract DevnetGlm is ERC20 {
    constructor() ERC20("Devnet Golem Network Token", "tGLM") {}

    /// @notice Makes tokens out of nothing.
    /// @param account Account that gets them.
    /// @param amount How much, in the smallest part.
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    /// @dev Golem's payment driver knows an empty wallet by the words of the older ERC-20s, not by the custom error.
    function _update(address from, address to, uint256 value) internal override {
        // solhint-disable-next-line gas-custom-errors
        require(from == address(0) || balanceOf(from) >= value, "transfer amount exceeds balance");
        super._update(from, to, value);
    }
}
