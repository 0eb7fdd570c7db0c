// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @title CoordinatorSettings
/// @notice The part of the coordinator that its owner sets: the price of callback gas, the publishers' share, the
/// publishing fee and the pause of new requests. Nothing here reaches a request that was made.
abstract contract CoordinatorSettings is IInferenceCoordinator, Ownable2Step, Pausable {
    /// @dev Gas in which callbacks are measured: the slot of a request counts it in units of this size.
    uint256 internal constant CALLBACK_GAS_UNIT = 10_000;
    /// @dev Most gas a callback can be given.
    uint256 internal constant MAX_CALLBACK_GAS = 255 * CALLBACK_GAS_UNIT;
    /// @dev Highest price of CALLBACK_GAS_UNIT gas, in units of its token: 1,000 gwei a gas where that is ether.
    uint256 internal constant MAX_CALLBACK_PRICE = 10_000_000;
    /// @dev Lowest share of a publisher, in basis points.
    uint256 internal constant MIN_PUBLISHER_SHARE = 1000;
    /// @dev Highest share of a publisher, in basis points.
    uint256 internal constant MAX_PUBLISHER_SHARE = 9000;
    /// @dev Highest publishing fee, in wei.
    uint256 internal constant MAX_PUBLISHING_FEE = 1 ether;

    /// @dev Basis points in a whole.
    uint256 internal constant BASIS_POINTS = 10_000;

    // The next four fit behind Pausable's flag and Ownable2Step's pending owner, so that a request reads and writes one
    // slot for all of them: 160 + 8 + 48 + 24 + 16 bits. 48 bits of nonce last for nine million years at one request a
    // second.

    /// @dev Nonce of the next request.
    uint48 private _nonce;
    /// @dev Price of CALLBACK_GAS_UNIT gas in gwei; 10,000 is one gwei a gas.
    uint24 private _callbackPrice = 10_000;
    /// @dev Publishers' share of models published from now on, in basis points.
    uint16 private _publisherShare = 3000;

    /// @dev Wei that publishing a model costs.
    uint256 private _publishingFee = 0.01 ether;
    /// @dev Price of CALLBACK_GAS_UNIT gas in units of a token; zero for a token in which no callback is sold.
    mapping(address token => uint24 price) private _tokenCallbackPrices;

    /// @inheritdoc IInferenceCoordinator
    function setCallbackPrice(address token, uint256 price) external onlyOwner {
        if (price > MAX_CALLBACK_PRICE) revert PriceNotRepresentable(price);
        // Fits: MAX_CALLBACK_PRICE is below 2^24
        if (token == address(0)) _callbackPrice = uint24(price);
        else _tokenCallbackPrices[token] = uint24(price);
        emit CallbackPriceSet(token, price);
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
    function setPublishingFee(uint256 fee) external onlyOwner {
        if (fee > MAX_PUBLISHING_FEE) revert PriceNotRepresentable(fee);
        _publishingFee = fee;
        emit PublishingFeeSet(fee);
    }

    /// @inheritdoc IInferenceCoordinator
    function pause() external onlyOwner {
        _pause();
    }

    /// @inheritdoc IInferenceCoordinator
    function unpause() external onlyOwner {
        _unpause();
    }

    /// @notice Always reverts: without an owner a stolen operator key could not be removed, nor a pause be lifted.
    function renounceOwnership() public view override onlyOwner {
        revert OwnershipNotRenounceable();
    }

    /// @inheritdoc IInferenceCoordinator
    function callbackPriceOf(address token) public view returns (uint256) {
        return token == address(0) ? _callbackPrice : _tokenCallbackPrices[token];
    }

    /// @inheritdoc IInferenceCoordinator
    function publisherShare() public view returns (uint256) {
        return _publisherShare;
    }

    /// @inheritdoc IInferenceCoordinator
    function publishingFee() public view returns (uint256) {
        return _publishingFee;
    }

    /// @inheritdoc IInferenceCoordinator
    function nextNonce() external view returns (uint256) {
        return _nonce;
    }

    /// @dev Takes nonces for new requests.
    /// @param count How many.
    /// @return first The first of them; the others follow it.
    function _useNonces(uint256 count) internal returns (uint256 first) {
        first = _nonce;
        unchecked {
            // Fits: 2^48 requests cannot be made.
            _nonce = uint48(first + count);
        }
    }
}
