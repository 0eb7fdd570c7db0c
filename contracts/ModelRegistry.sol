// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {Cid} from "./Cid.sol";
import {CoordinatorSettings} from "./CoordinatorSettings.sol";
import {Ledger} from "./Ledger.sol";
import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

/// @title ModelRegistry
/// @notice The part of the coordinator that holds the models: publish, price, retire, and what each has earned.
abstract contract ModelRegistry is CoordinatorSettings, Ledger {
    using Cid for bytes;

    /// @dev Highest model id: a request's slot has twelve bits for it.
    uint256 internal constant MAX_MODELS = 4095;
    /// @dev Highest price of a prediction, in units of the model's token: 1,000 ether where that is ether.
    uint256 internal constant MAX_MODEL_PRICE = 10 ** 12;

    /// @dev Ether is counted in gwei.
    uint256 internal constant ETHER_UNIT = 1 gwei;
    /// @dev A token of more than nine decimals is counted in units of 10^-9, one of fewer in its smallest part.
    uint256 private constant UNIT_DECIMALS = 9;
    /// @dev Most decimals of a token, so that a unit fits in its place.
    uint256 private constant MAX_DECIMALS = 18;

    /// @dev What requests and reports touch of a model: one slot.
    /// @param earned What the publisher has earned and not taken yet, in the token's smallest part.
    /// @param unit Smallest parts of the token in one unit of price and payment.
    /// @param price Price in units.
    /// @param share Publisher's share in basis points.
    /// @param active Whether new requests are accepted.
    /// @param inToken Whether it is priced in an ERC-20.
    struct ModelTerms {
        uint144 earned;
        uint32 unit;
        uint40 price;
        uint16 share;
        bool active;
        bool inToken;
    }

    /// @dev The rest of a model. `token` is the zero address for ether.
    struct ModelRecord {
        address payout;
        Cid.Form manifestForm;
        address publisher;
        bytes32 manifestDigest;
        address token;
    }

    mapping(uint256 modelId => ModelTerms terms) internal _terms;
    mapping(uint256 modelId => ModelRecord record) private _models;
    uint256 private _modelCount;

    /// @dev Reverts unless the model exists and the caller published it.
    modifier onlyPublisher(uint256 modelId) {
        _checkPublisher(modelId);
        _;
    }

    /// @inheritdoc IInferenceCoordinator
    function publishModel(bytes calldata manifestCid, uint256 price, address token, address payout)
        external
        payable
        nonReentrant
        returns (uint256 modelId)
    {
        Cid.Form form = manifestCid.formOf();
        if (form == Cid.Form.None) revert InvalidCid(manifestCid);
        if (payout == address(0)) revert ZeroAddress();
        modelId = _modelCount + 1;
        if (modelId > MAX_MODELS) revert RegistryFull(MAX_MODELS);
        uint256 fee = msg.sender == owner() ? 0 : publishingFee();
        if (msg.value < fee) revert PaymentTooLow(msg.value, fee);
        uint256 unit = token == ETHER ? ETHER_UNIT : _unitOf(token);

        _modelCount = modelId;
        // The two casts fit: a unit is at most 10^9, a share at most 9,000
        _terms[modelId] = ModelTerms({
            earned: 0,
            unit: uint32(unit),
            price: _inUnits(price, unit),
            share: uint16(publisherShare()),
            active: true,
            inToken: token != ETHER
        });
        _models[modelId] = ModelRecord({
            payout: payout,
            manifestForm: form,
            publisher: msg.sender,
            manifestDigest: manifestCid.digestOf(),
            token: token
        });
        if (fee != 0) _credit(ETHER, owner(), fee);
        emit ModelPublished(modelId, payout, token, price, manifestCid);

        _payOut(msg.sender, msg.value - fee);
    }

    /// @inheritdoc IInferenceCoordinator
    function setModelPrice(uint256 modelId, uint256 price) external onlyPublisher(modelId) {
        ModelTerms storage terms = _terms[modelId];
        terms.price = _inUnits(price, terms.unit);
        emit ModelRepriced(modelId, price);
    }

    /// @inheritdoc IInferenceCoordinator
    function setModelActive(uint256 modelId, bool active) external onlyPublisher(modelId) {
        _terms[modelId].active = active;
        emit ModelActivitySet(modelId, active);
    }

    /// @inheritdoc IInferenceCoordinator
    function withdrawEarnings(uint256 modelId, address to) external nonReentrant returns (uint256 amount) {
        if (to == address(0)) revert ZeroAddress();
        ModelRecord storage record = _models[modelId];
        if (record.payout == address(0)) revert UnknownModel(modelId);
        if (msg.sender != record.payout) revert NotModelPayout(msg.sender, record.payout);
        amount = _terms[modelId].earned;
        if (amount == 0) revert NothingEarned(modelId);

        _terms[modelId].earned = 0;
        emit EarningsWithdrawn(modelId, to, amount);
        _send(record.token, to, amount);
    }

    /// @inheritdoc IInferenceCoordinator
    function modelCount() external view returns (uint256) {
        return _modelCount;
    }

    /// @inheritdoc IInferenceCoordinator
    function modelOf(uint256 modelId) external view returns (Model memory) {
        ModelRecord storage record = _models[modelId];
        ModelTerms storage terms = _terms[modelId];
        if (record.payout == address(0)) revert UnknownModel(modelId);
        return Model({
            publisher: record.publisher,
            payout: record.payout,
            token: record.token,
            active: terms.active,
            price: uint256(terms.price) * terms.unit,
            publisherShare: terms.share,
            manifestCid: Cid.join(record.manifestForm, record.manifestDigest)
        });
    }

    /// @inheritdoc IInferenceCoordinator
    function earningsOf(uint256 modelId) external view returns (uint256) {
        return _terms[modelId].earned;
    }

    /// @dev Token of a model that is known to exist.
    /// @param modelId Model to ask.
    /// @return Its token, the zero address for ether.
    function _tokenOf(uint256 modelId) internal view returns (address) {
        return _models[modelId].token;
    }

    /// @dev What a model that takes requests asks, callback included.
    /// @param modelId Model to ask.
    /// @param units Callback gas in units of CALLBACK_GAS_UNIT.
    /// @return price Units of its token.
    /// @return unit Smallest parts of the token in one unit.
    /// @return token Its token, the zero address for ether.
    function _priceOf(uint256 modelId, uint256 units)
        internal
        view
        returns (uint256 price, uint256 unit, address token)
    {
        ModelTerms storage terms = _terms[modelId];
        if (!terms.active) {
            if (terms.unit == 0) revert UnknownModel(modelId);
            revert ModelInactive(modelId);
        }
        (price, unit) = (terms.price, terms.unit);
        if (terms.inToken) token = _tokenOf(modelId);
        if (units == 0) return (price, unit, token);
        uint256 callbackPrice = callbackPriceOf(token);
        if (callbackPrice == 0 && terms.inToken) revert CallbackNotSold(token);
        price += units * callbackPrice;
    }

    /// @dev See `onlyPublisher`.
    function _checkPublisher(uint256 modelId) private view {
        address publisher = _models[modelId].publisher;
        if (publisher == address(0)) revert UnknownModel(modelId);
        if (msg.sender != publisher) revert NotModelPublisher(msg.sender, publisher);
    }

    /// @dev The unit of a token by its decimals, or `TokenUnsupported`.
    function _unitOf(address token) private view returns (uint256) {
        _checkCode(token);
        // A `try` would not catch an answer of another shape.
        // solhint-disable-next-line avoid-low-level-calls
        (bool success, bytes memory answer) = token.staticcall(abi.encodeCall(IERC20Metadata.decimals, ()));
        if (!success || answer.length != 32) revert TokenUnsupported(token);
        uint256 decimals = uint256(bytes32(answer));
        if (decimals > MAX_DECIMALS) revert TokenUnsupported(token);
        return decimals > UNIT_DECIMALS ? 10 ** (decimals - UNIT_DECIMALS) : 1;
    }

    /// @dev A price in whole units, or `PriceNotRepresentable`.
    function _inUnits(uint256 price, uint256 unit) private pure returns (uint40) {
        if (price % unit != 0 || price / unit > MAX_MODEL_PRICE) revert PriceNotRepresentable(price);
        // Fits: MAX_MODEL_PRICE is below 2^40
        return uint40(price / unit);
    }
}
