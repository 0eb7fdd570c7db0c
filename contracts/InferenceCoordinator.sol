// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Cid} from "./Cid.sol";
import {CoordinatorSettings} from "./CoordinatorSettings.sol";
import {ModelRegistry} from "./ModelRegistry.sol";
import {RequestSlot} from "./RequestSlot.sol";
import {IInferenceConsumer} from "./interfaces/IInferenceConsumer.sol";
import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title InferenceCoordinator
/// @notice Takes paid requests, holds their money, settles them by reports of operators and carries answers back.
/// @dev The interface says what each function does. One slot holds a request (`RequestSlot`), one mapping holds all
/// money owed; the balance is never below the payments of pending requests and the credits together. Inside a
/// money function the order is: checks, state, event, callback, transfer. The one exception is a credit opened because
/// a transfer was refused; the transient guard closes every money function meanwhile.
contract InferenceCoordinator is CoordinatorSettings, ModelRegistry, ReentrancyGuardTransient {
    using Cid for bytes;
    using RequestSlot for uint256;

    /// @notice Shortest time, in seconds, between a request and its deadline.
    uint256 public constant MIN_DEADLINE = 30 seconds;
    /// @notice Longest time, in seconds, between a request and its deadline.
    uint256 public constant MAX_DEADLINE = 7 days;
    /// @notice Longest answer, in bytes.
    uint256 public constant MAX_ANSWER_LENGTH = 1024;
    /// @notice Gas that goes with ether sent to its owner directly.
    uint256 public constant TRANSFER_GAS = 50_000;

    /// @dev Most that a CALL costs by itself: cold account 2,600, value 9,000, new account 25,000, and our own steps.
    uint256 private constant CALL_OVERHEAD = 40_000;

    mapping(bytes32 requestId => uint256 slot) private _requests;
    mapping(address account => uint256 amount) private _credits;

    /// @param owner_ First owner: it sets operators, shares and the callback price, and nothing else.
    constructor(address owner_) CoordinatorSettings(owner_) {}

    /// @inheritdoc IInferenceCoordinator
    function request(uint256 modelId, bytes calldata imageCid, uint256 callbackGas, uint256 deadline)
        external
        payable
        nonReentrant
        whenNotPaused
        returns (bytes32 requestId)
    {
        if (imageCid.formOf() == Cid.Form.None) revert InvalidCid(imageCid);
        if (deadline < block.timestamp + MIN_DEADLINE || deadline > block.timestamp + MAX_DEADLINE) {
            revert DeadlineOutOfRange(deadline, block.timestamp + MIN_DEADLINE, block.timestamp + MAX_DEADLINE);
        }
        uint256 units = _callbackUnits(callbackGas);
        uint256 payment = _quoteGwei(modelId, units);

        uint256 nonce = _useNonce();
        uint256 slot = RequestSlot.pending(msg.sender, payment, deadline, units, modelId);
        payment *= GWEI;
        if (msg.value < payment) revert PaymentTooLow(msg.value, payment);
        callbackGas = units * CALLBACK_GAS_UNIT;

        requestId = keccak256(
            abi.encode(
                block.chainid, address(this), msg.sender, nonce, modelId, imageCid, payment, callbackGas, deadline
            )
        );
        _requests[requestId] = slot;
        emit InferenceRequested(requestId, modelId, msg.sender, imageCid, payment, callbackGas, deadline, nonce);

        _payOut(msg.sender, msg.value - payment);
    }

    /// @inheritdoc IInferenceCoordinator
    function report(Fulfilment[] calldata items) external onlyOperator nonReentrant {
        if (items.length == 0) revert EmptyReport();
        uint256[] memory owed = _settle(items);
        for (uint256 i = 0; i < items.length; ++i) {
            uint256 slot = owed[i];
            if (slot == 0) continue;
            Fulfilment calldata item = items[i];
            if (item.failure == FailureReason.None) {
                _callBack(item, slot);
            } else {
                _payOut(slot.requester(), slot.paymentGwei() * GWEI);
            }
        }
    }

    /// @inheritdoc IInferenceCoordinator
    function refund(bytes32 requestId) external nonReentrant {
        uint256 slot = _requests[requestId];
        uint256 deadline = slot.isWhole() ? slot.deadline() : 0;
        if (slot.status() != Status.Pending || block.timestamp <= deadline) {
            revert NotRefundable(requestId, slot.status(), deadline);
        }
        address requester = slot.requester();
        uint256 payment = slot.paymentGwei() * GWEI;

        _requests[requestId] = slot.withStatus(Status.Refunded);
        emit InferenceRefunded(requestId, requester, payment);
        _payOut(requester, payment);
    }

    /// @inheritdoc IInferenceCoordinator
    function retryCallback(bytes32 requestId, address requester, bytes calldata resultCid, bytes calldata answer)
        external
        nonReentrant
    {
        uint256 slot = _requests[requestId];
        if (slot.status() != Status.CallbackFailed) revert NotRetriable(requestId, slot.status());
        if (!slot.commitsTo(_commitment(requester, resultCid, answer))) revert ResultMismatch(requestId);

        _requests[requestId] = slot.withStatus(Status.Fulfilled);
        emit CallbackRetried(requestId);

        bytes memory data = abi.encodeCall(IInferenceConsumer.fulfillInference, (requestId, resultCid, answer));
        _requireGas(slot.units() * CALLBACK_GAS_UNIT);
        if (!_call(requester, gasleft(), 0, data)) revert CallbackReverted(requestId);
    }

    /// @inheritdoc IInferenceCoordinator
    function withdraw(address to) external nonReentrant returns (uint256 amount) {
        if (to == address(0)) revert ZeroAddress();
        amount = _credits[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);

        _credits[msg.sender] = 0;
        emit Withdrawn(msg.sender, to, amount);
        if (!_call(to, gasleft(), amount, "")) revert TransferFailed(to, amount);
    }

    /// @inheritdoc IInferenceCoordinator
    function quote(uint256 modelId, uint256 callbackGas) external view returns (uint256 payment) {
        return _quoteGwei(modelId, _callbackUnits(callbackGas)) * GWEI;
    }

    /// @inheritdoc IInferenceCoordinator
    function requestOf(bytes32 requestId) external view returns (Request memory known) {
        uint256 slot = _requests[requestId];
        known.status = slot.status();
        known.modelId = slot.modelId();
        if (known.status == Status.Failed) known.failure = slot.failure();
        else known.callbackGas = slot.units() * CALLBACK_GAS_UNIT;
        if (slot.isWhole()) {
            known.requester = slot.requester();
            known.payment = slot.paymentGwei() * GWEI;
            known.deadline = slot.deadline();
        }
    }

    /// @inheritdoc IInferenceCoordinator
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    /// @inheritdoc IInferenceCoordinator
    function verifyResult(bytes32 requestId, address requester, bytes calldata resultCid, bytes calldata answer)
        external
        view
        returns (bool)
    {
        return _requests[requestId].commitsTo(_commitment(requester, resultCid, answer));
    }

    /// @dev First half of a report: settles every item and writes every credit; calls nobody.
    /// @param items Items of the report.
    /// @return owed For each item the slot it had while pending when a callback or a refund is owed, else zero.
    function _settle(Fulfilment[] calldata items) private returns (uint256[] memory owed) {
        owed = new uint256[](items.length);
        uint256 share = _publisherShare;
        uint256 toOperator;
        uint256 toPublisher;
        uint256 modelId;
        for (uint256 i = 0; i < items.length; ++i) {
            Fulfilment calldata item = items[i];
            uint256 slot = _requests[item.requestId];
            if (slot.status() != Status.Pending || !_acceptable(item, slot)) {
                emit FulfilmentSkipped(item.requestId, slot.status());
                continue;
            }
            if (item.failure != FailureReason.None) {
                _fail(item.requestId, item.failure, slot);
                owed[i] = slot;
                continue;
            }

            // A batch is of one model, so the publisher's credit is added up and written when the model changes.
            if (slot.modelId() != modelId) {
                if (toPublisher != 0) _credit(_payoutOf(modelId), toPublisher);
                toPublisher = 0;
                modelId = slot.modelId();
            }
            uint256 payment = slot.paymentGwei() * GWEI;
            uint256 cut = payment * share / BASIS_POINTS;
            toPublisher += cut;
            toOperator += payment - cut;

            _requests[item.requestId] = slot.fulfilled(_commitment(slot.requester(), item.resultCid, item.answer));
            emit InferenceFulfilled(item.requestId, item.resultCid, item.answer);
            if (slot.units() != 0) owed[i] = slot;
        }
        if (toPublisher != 0) _credit(_payoutOf(modelId), toPublisher);
        _credit(msg.sender, toOperator);
    }

    /// @dev Settles a pending request as failed; the transfer is left to the second half of the report.
    function _fail(bytes32 requestId, FailureReason reason, uint256 slot) private {
        _requests[requestId] = slot.failed(reason);
        emit InferenceFailed(requestId, reason);
        emit InferenceRefunded(requestId, slot.requester(), slot.paymentGwei() * GWEI);
    }

    /// @dev Calls the requester back with the gas it paid for, if it is a contract, and records a failure.
    /// @param item Item that was settled.
    /// @param slot Slot of its request while it was pending.
    function _callBack(Fulfilment calldata item, uint256 slot) private {
        address requester = slot.requester();
        if (requester.code.length == 0) return;
        uint256 callbackGas = slot.units() * CALLBACK_GAS_UNIT;
        bytes memory data =
            abi.encodeCall(IInferenceConsumer.fulfillInference, (item.requestId, item.resultCid, item.answer));
        _requireGas(callbackGas);
        if (_call(requester, callbackGas, 0, data)) return;
        _requests[item.requestId] = _requests[item.requestId].withStatus(Status.CallbackFailed);
        emit CallbackFailed(item.requestId);
    }

    /// @dev Sends ether to its owner with bounded gas, or opens a credit when they do not take it.
    /// @param to Owner of the ether.
    /// @param amount Wei to send; nothing happens for zero.
    function _payOut(address to, uint256 amount) private {
        if (amount == 0) return;
        _requireGas(TRANSFER_GAS);
        if (_call(to, TRANSFER_GAS, amount, "")) return;
        _credit(to, amount);
        emit Credited(to, amount);
    }

    /// @dev Adds to a credit.
    function _credit(address account, uint256 amount) private {
        if (amount != 0) _credits[account] += amount;
    }

    /// @dev A call that copies nothing back, so that the callee cannot make us pay for what it returns.
    /// @param to Account to call.
    /// @param gasLimit Gas to give it.
    /// @param value Wei to send.
    /// @param data Calldata.
    /// @return success Whether it succeeded.
    function _call(address to, uint256 gasLimit, uint256 value, bytes memory data) private returns (bool success) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            success := call(gasLimit, to, value, add(data, 0x20), mload(data), 0, 0)
        }
    }

    /// @dev Reverts unless a call made next can be given this gas in full: the EVM keeps one part in 64 back.
    function _requireGas(uint256 callGas) private view {
        uint256 required = callGas * 64 / 63 + CALL_OVERHEAD;
        uint256 available = gasleft();
        if (available < required) revert InsufficientGas(available, required);
    }

    /// @dev Whether an item may settle its pending request: a failure always, an answer in time and in form.
    function _acceptable(Fulfilment calldata item, uint256 slot) private view returns (bool) {
        if (item.failure != FailureReason.None) return true;
        return block.timestamp <= slot.deadline() && item.resultCid.formOf() != Cid.Form.None
            && item.answer.length <= MAX_ANSWER_LENGTH;
    }

    /// @dev Price of a request in gwei.
    function _quoteGwei(uint256 modelId, uint256 units) private view returns (uint256) {
        uint256 price = _priceGweiOf(modelId);
        return units == 0 ? price : price + units * _callbackUnitPrice;
    }

    /// @dev Callback gas in units, rounded up, or `CallbackGasTooHigh`.
    function _callbackUnits(uint256 callbackGas) private pure returns (uint256) {
        if (callbackGas > MAX_CALLBACK_GAS) revert CallbackGasTooHigh(callbackGas, MAX_CALLBACK_GAS);
        return (callbackGas + CALLBACK_GAS_UNIT - 1) / CALLBACK_GAS_UNIT;
    }

    /// @dev What an answered request's slot commits to.
    function _commitment(address requester, bytes calldata resultCid, bytes calldata answer)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(requester, resultCid, answer));
    }
}
