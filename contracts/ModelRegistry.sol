// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {Cid} from "./Cid.sol";
import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";

/// @title ModelRegistry
/// @notice The part of the coordinator that holds the models: publish, price, pause.
abstract contract ModelRegistry is IInferenceCoordinator {
    using Cid for bytes;

    /// @notice Highest model id: a request's slot has twelve bits for it.
    uint256 public constant MAX_MODELS = 4095;
    /// @notice Highest price of a prediction, in wei.
    uint256 public constant MAX_MODEL_PRICE = 1000 ether;

    /// @dev The money unit of a stored price.
    uint256 private constant PRICE_UNIT = 1 gwei;

    /// @dev What is stored of a model. Requests and reports touch the first slot alone.
    struct ModelRecord {
        address payout;
        uint40 priceGwei;
        bool active;
        Cid.Form manifestForm;
        bytes32 manifestDigest;
        address publisher;
    }

    mapping(uint256 modelId => ModelRecord record) private _models;
    uint256 private _modelCount;

    /// @dev Reverts unless the model exists and the caller published it.
    modifier onlyPublisher(uint256 modelId) {
        _checkPublisher(modelId);
        _;
    }

    /// @inheritdoc IInferenceCoordinator
    function publishModel(bytes calldata manifestCid, uint256 price, address payout)
        external
        returns (uint256 modelId)
    {
        Cid.Form form = manifestCid.formOf();
        if (form == Cid.Form.None) revert InvalidCid(manifestCid);
        if (payout == address(0)) revert ZeroAddress();
        modelId = _modelCount + 1;
        if (modelId > MAX_MODELS) revert RegistryFull(MAX_MODELS);

        _modelCount = modelId;
        _models[modelId] = ModelRecord({
            payout: payout,
            priceGwei: _toGwei(price),
            active: true,
            manifestForm: form,
            manifestDigest: manifestCid.digestOf(),
            publisher: msg.sender
        });
        emit ModelPublished(modelId, payout, price, manifestCid);
    }

    /// @inheritdoc IInferenceCoordinator
    function setModelPrice(uint256 modelId, uint256 price) external onlyPublisher(modelId) {
        _models[modelId].priceGwei = _toGwei(price);
        emit ModelRepriced(modelId, price);
    }

    /// @inheritdoc IInferenceCoordinator
    function setModelActive(uint256 modelId, bool active) external onlyPublisher(modelId) {
        _models[modelId].active = active;
        emit ModelActivitySet(modelId, active);
    }

    /// @inheritdoc IInferenceCoordinator
    function modelCount() external view returns (uint256) {
        return _modelCount;
    }

    /// @inheritdoc IInferenceCoordinator
    function modelOf(uint256 modelId) external view returns (Model memory) {
        ModelRecord storage record = _models[modelId];
        address payout = record.payout;
        if (payout == address(0)) revert UnknownModel(modelId);
        return Model({
            payout: payout,
            active: record.active,
            price: uint256(record.priceGwei) * PRICE_UNIT,
            manifestCid: Cid.join(record.manifestForm, record.manifestDigest)
        });
    }

    /// @inheritdoc IInferenceCoordinator
    function publisherOf(uint256 modelId) external view returns (address) {
        address publisher = _models[modelId].publisher;
        if (publisher == address(0)) revert UnknownModel(modelId);
        return publisher;
    }

    /// @dev Price in gwei of a model that takes requests.
    /// @param modelId Model to ask.
    /// @return Its price in gwei.
    function _priceGweiOf(uint256 modelId) internal view returns (uint256) {
        ModelRecord storage record = _models[modelId];
        if (!record.active) {
            if (record.payout == address(0)) revert UnknownModel(modelId);
            revert ModelInactive(modelId);
        }
        return record.priceGwei;
    }

    /// @dev Account credited for a model that is known to exist.
    /// @param modelId Model that answered.
    /// @return Its payout account.
    function _payoutOf(uint256 modelId) internal view returns (address) {
        return _models[modelId].payout;
    }

    /// @dev See `onlyPublisher`.
    function _checkPublisher(uint256 modelId) private view {
        address publisher = _models[modelId].publisher;
        if (publisher == address(0)) revert UnknownModel(modelId);
        if (msg.sender != publisher) revert NotModelPublisher(msg.sender, publisher);
    }

    /// @dev A price in whole gwei, or `PriceNotRepresentable`.
    function _toGwei(uint256 price) private pure returns (uint40) {
        if (price % PRICE_UNIT != 0 || price > MAX_MODEL_PRICE) revert PriceNotRepresentable(price);
        // Fits: MAX_MODEL_PRICE is 10^12 gwei, below 2^40
        return uint40(price / PRICE_UNIT);
    }
}
