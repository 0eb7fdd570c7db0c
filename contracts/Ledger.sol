// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Ledger
/// @notice The part of the coordinator that holds the balances of accounts, and the only one that moves money.
/// @dev Ether is the token with the zero address. An account's ether and, for an operator, the quorum share a slot, so
/// that a report checks its operator and pays it for one cold slot.
abstract contract Ledger is IInferenceCoordinator, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev Gas that goes with ether sent to its owner directly.
    uint256 internal constant TRANSFER_GAS = 50_000;

    /// @dev The address that stands for ether where a token is named.
    address internal constant ETHER = address(0);
    /// @dev Largest deposit of a token; one that lies about its balances must not bring a balance near its end.
    uint256 private constant MAX_DEPOSIT = type(uint128).max;
    /// @dev Most that a CALL costs by itself: cold account 2,600, value 9,000, new account 25,000, and our own steps.
    uint256 private constant CALL_OVERHEAD = 40_000;

    /// @dev `quorum` is zero for everyone but the operators, who all carry the quorum of their set.
    struct Account {
        uint248 balance;
        uint8 quorum;
    }

    mapping(address account => Account record) internal _accounts;
    mapping(address token => mapping(address account => uint256 balance)) private _tokenBalances;

    /// @inheritdoc IInferenceCoordinator
    function deposit() external payable nonReentrant {
        _credit(ETHER, msg.sender, msg.value);
        emit Deposited(ETHER, msg.sender, msg.value);
    }

    /// @inheritdoc IInferenceCoordinator
    function depositToken(address token, uint256 amount) external nonReentrant {
        _depositToken(token, amount);
    }

    /// @inheritdoc IInferenceCoordinator
    function depositWithPermit(address token, uint256 amount, Permit calldata permit) external nonReentrant {
        _checkCode(token);
        _usePermit(token, amount, permit);
        _depositToken(token, amount);
    }

    /// @inheritdoc IInferenceCoordinator
    function withdraw(address token, address to, uint256 amount) external nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        _debit(token, msg.sender, amount);
        emit Withdrawn(token, msg.sender, to, amount);
        _send(token, to, amount);
    }

    /// @inheritdoc IInferenceCoordinator
    function balanceOf(address token, address account) external view returns (uint256) {
        return _balanceOf(token, account);
    }

    /// @dev Adds to a balance.
    function _credit(address token, address account, uint256 amount) internal {
        // Fits: there are not 2^248 wei
        if (token == ETHER) _accounts[account].balance += uint248(amount);
        else _tokenBalances[token][account] += amount;
    }

    /// @dev Takes from a balance, or reverts with `BalanceTooLow`.
    function _debit(address token, address account, uint256 amount) internal {
        uint256 balance = _balanceOf(token, account);
        if (balance < amount) revert BalanceTooLow(token, account, balance, amount);
        // Fits: a balance of ether is stored in 248 bits
        if (token == ETHER) _accounts[account].balance = uint248(balance - amount);
        else _tokenBalances[token][account] = balance - amount;
    }

    /// @dev Takes tokens that the caller allowed, all of them or none.
    function _pull(address token, uint256 amount) internal {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = IERC20(token).balanceOf(address(this)) - before;
        if (received != amount) revert TokenTransferInexact(token, received, amount);
    }

    /// @dev Uses a permit. A failure is left to the transfer that follows: somebody else may have used it already.
    function _usePermit(address token, uint256 amount, Permit calldata permit) internal {
        // solhint-disable no-empty-blocks
        try IERC20Permit(token)
            .permit(msg.sender, address(this), amount, permit.deadline, permit.v, permit.r, permit.s) {}
            catch {}
        // solhint-enable no-empty-blocks
    }

    /// @dev Sends money whose owner asked for it, or reverts with `TransferFailed` or what the token says.
    function _send(address token, address to, uint256 amount) internal {
        if (to == address(this)) revert TransferFailed(to, amount);
        if (token != ETHER) IERC20(token).safeTransfer(to, amount);
        else if (!_call(to, gasleft(), amount, "")) revert TransferFailed(to, amount);
    }

    /// @dev Sends ether to its owner with bounded gas, or adds it to their balance when they do not take it.
    /// @param to Owner of the ether.
    /// @param amount Wei to send; nothing happens for zero.
    function _payOut(address to, uint256 amount) internal {
        if (amount == 0) return;
        _requireGas(TRANSFER_GAS);
        if (_call(to, TRANSFER_GAS, amount, "")) return;
        _credit(ETHER, to, amount);
        emit Credited(ETHER, to, amount);
    }

    /// @dev A call that copies nothing back, so that the callee cannot make us pay for what it returns.
    /// @param to Account to call.
    /// @param gasLimit Gas to give it.
    /// @param value Wei to send.
    /// @param data Calldata.
    /// @return success Whether it succeeded.
    function _call(address to, uint256 gasLimit, uint256 value, bytes memory data) internal returns (bool success) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            success := call(gasLimit, to, value, add(data, 0x20), mload(data), 0, 0)
        }
    }

    /// @dev Reverts unless a call made next can be given this gas in full: the EVM keeps one part in 64 back.
    function _requireGas(uint256 callGas) internal view {
        uint256 required = callGas * 64 / 63 + CALL_OVERHEAD;
        uint256 available = gasleft();
        if (available < required) revert InsufficientGas(available, required);
    }

    /// @dev See `depositToken`.
    function _depositToken(address token, uint256 amount) private {
        _checkCode(token);
        if (amount > MAX_DEPOSIT) revert DepositTooLarge(amount, MAX_DEPOSIT);
        _pull(token, amount);
        _credit(token, msg.sender, amount);
        emit Deposited(token, msg.sender, amount);
    }

    /// @dev Reverts unless there is a contract at a token's address; ether is none.
    function _checkCode(address token) internal view {
        if (token.code.length == 0) revert TokenUnsupported(token);
    }

    /// @dev A balance.
    function _balanceOf(address token, address account) private view returns (uint256) {
        return token == ETHER ? _accounts[account].balance : _tokenBalances[token][account];
    }
}
