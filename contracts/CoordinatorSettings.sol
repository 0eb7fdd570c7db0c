// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @title CoordinatorSettings
/// @notice The part of the coordinator that its owner holds: operators, the price of callback gas, the publishers'
/// share and the pause of new requests. Nothing here reaches the money of a request.
abstract contract CoordinatorSettings is IInferenceCoordinator, Ownable2Step, Pausable {
    /// @notice Gas in which callbacks are measured: the slot of a request counts it in units of this size.
    uint256 public constant CALLBACK_GAS_UNIT = 10_000;
    /// @notice Most gas a callback can be given.
    uint256 public constant MAX_CALLBACK_GAS = 255 * CALLBACK_GAS_UNIT;
    /// @notice Highest price of callback gas, in wei per gas.
    uint256 public constant MAX_CALLBACK_GAS_PRICE = 1000 gwei;
    /// @notice Lowest share of a publisher, in basis points.
    uint256 public constant MIN_PUBLISHER_SHARE = 1000;
    /// @notice Highest share of a publisher, in basis points.
    uint256 public constant MAX_PUBLISHER_SHARE = 9000;

    /// @dev Basis points in a whole.
    uint256 internal constant BASIS_POINTS = 10_000;
    /// @dev The money unit of every stored price and payment.
    uint256 internal constant GWEI = 1 gwei;

    // The next three fit behind Pausable's flag and Ownable2Step's pending owner, so that a request reads one slot for
    // all of them: 160 + 8 + 48 + 16 + 24 bits. 48 bits of nonce last for nine million years at one request a second.

    /// @dev Nonce of the next request.
    uint48 private _nonce;
    /// @dev Publishers' share in basis points.
    uint16 internal _publisherShare = 3000;
    /// @dev Price of CALLBACK_GAS_UNIT gas in gwei; 10,000 is one gwei a gas.
    uint24 internal _callbackUnitPrice = 10_000;

    /// @dev Who may report.
    mapping(address account => bool allowed) private _operators;

    /// @dev Reverts with `NotOperator` unless the caller may report.
    modifier onlyOperator() {
        _checkOperator();
        _;
    }

    /// @param owner_ First owner.
    constructor(address owner_) Ownable(owner_) {}

    /// @inheritdoc IInferenceCoordinator
    function setOperator(address operator, bool allowed) external onlyOwner {
        if (operator == address(0)) revert ZeroAddress();
        _operators[operator] = allowed;
        emit OperatorSet(operator, allowed);
    }

    /// @inheritdoc IInferenceCoordinator
    function setCallbackGasPrice(uint256 weiPerGas) external onlyOwner {
        if (weiPerGas > MAX_CALLBACK_GAS_PRICE || weiPerGas * CALLBACK_GAS_UNIT % GWEI != 0) {
            revert PriceNotRepresentable(weiPerGas);
        }
        // Fits: MAX_CALLBACK_GAS_PRICE makes 10^7 gwei, below 2^24
        _callbackUnitPrice = uint24(weiPerGas * CALLBACK_GAS_UNIT / GWEI);
        emit CallbackGasPriceSet(weiPerGas);
    }

    /// @inheritdoc IInferenceCoordinator
    function setPublisherShare(uint256 basisPoints) external onlyOwner {
        if (basisPoints < MIN_PUBLISHER_SHARE || basisPoints > MAX_PUBLISHER_SHARE) {
            revert ShareOutOfRange(basisPoints, MIN_PUBLISHER_SHARE, MAX_PUBLISHER_SHARE);
        }
        // Fits: at most MAX_PUBLISHER_SHARE
        _publisherShare = uint16(basisPoints);
        emit PublisherShareSet(basisPoints);
    }

    /// @inheritdoc IInferenceCoordinator
    function pause() external onlyOwner {
        _pause();
    }

    /// @inheritdoc IInferenceCoordinator
    function unpause() external onlyOwner {
        _unpause();
    }

    /// @inheritdoc IInferenceCoordinator
    function isOperator(address account) external view returns (bool) {
        return _operators[account];
    }

    /// @inheritdoc IInferenceCoordinator
    function callbackGasPrice() external view returns (uint256) {
        return uint256(_callbackUnitPrice) * GWEI / CALLBACK_GAS_UNIT;
    }

    /// @inheritdoc IInferenceCoordinator
    function publisherShare() external view returns (uint256) {
        return _publisherShare;
    }

    /// @inheritdoc IInferenceCoordinator
    function nextNonce() external view returns (uint256) {
        return _nonce;
    }

    /// @dev The nonce of a new request; the next one gets the next.
    /// @return nonce Nonce to use.
    function _useNonce() internal returns (uint256 nonce) {
        nonce = _nonce;
        unchecked {
            // Fits: 2^48 requests cannot be made.
            _nonce = uint48(nonce + 1);
        }
    }

    /// @dev See `onlyOperator`.
    function _checkOperator() private view {
        if (!_operators[msg.sender]) revert NotOperator(msg.sender);
    }
}
