// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title NoReturnToken
/// @notice Mock: a token older than the standard, whose transfers return nothing. Anybody may mint.
contract NoReturnToken {
    /// @notice Decimals.
    uint8 public immutable decimals;
    /// @notice Balance of an account.
    mapping(address account => uint256 balance) public balanceOf;
    /// @notice What an account lets another one take.
    mapping(address account => mapping(address spender => uint256 amount)) public allowance;

    /// @notice The account holds too little.
    error BalanceTooLow(address account, uint256 balance, uint256 amount);
    /// @notice The account allowed too little.
    error AllowanceTooLow(address account, address spender, uint256 allowed, uint256 amount);

    /// @param decimals_ Decimals that it states.
    constructor(uint8 decimals_) {
        decimals = decimals_;
    }

    /// @notice Makes tokens out of nothing.
    /// @param account Account that gets them.
    /// @param amount How much, in the smallest part.
    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    /// @notice Lets another account take tokens.
    /// @param spender Account that may take them.
    /// @param amount How much.
    function approve(address spender, uint256 amount) public virtual {
        allowance[msg.sender][spender] = amount;
    }

    /// @notice Sends tokens; returns nothing.
    /// @param to Account that receives them.
    /// @param amount How much.
    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    /// @notice Sends tokens that were allowed; returns nothing.
    /// @param from Account that they come from.
    /// @param to Account that receives them.
    /// @param amount How much.
    function transferFrom(address from, address to, uint256 amount) external {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed < amount) revert AllowanceTooLow(from, msg.sender, allowed, amount);
        allowance[from][msg.sender] = allowed - amount;
        _move(from, to, amount);
    }

    /// @dev Moves tokens.
    function _move(address from, address to, uint256 amount) private {
        if (balanceOf[from] < amount) revert BalanceTooLow(from, balanceOf[from], amount);
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}
