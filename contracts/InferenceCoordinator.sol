// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Cid} from "./Cid.sol";
import {ModelRegistry} from "./ModelRegistry.sol";
import {OperatorSet} from "./OperatorSet.sol";
import {RequestSlot} from "./RequestSlot.sol";
import {IInferenceConsumer} from "./interfaces/IInferenceConsumer.sol";
import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";

/// @title InferenceCoordinator
/// @notice Takes paid requests, holds their money, settles them by reports of operators and carries answers back.
/// @dev The interface says what each function does. One slot holds a request (`RequestSlot`). For every token, what the
/// coordinator holds is never below the payments of pending requests, the balances and the earnings together. Inside a
/// money function the order is: checks, state, event, callback, transfer. Two exceptions: tokens that are pulled come
/// in before the request is written, since they must be there, and a balance is credited when a transfer was refused;
/// the transient guard closes every money function meanwhile.
contract InferenceCoordinator is ModelRegistry, OperatorSet {
    using Cid for bytes;
    using RequestSlot for uint256;

    /// @dev Shortest time, in seconds, between a request and its deadline.
    uint256 private constant MIN_DEADLINE = 30 seconds;
    /// @dev Longest time, in seconds, between a request and its deadline.
    uint256 private constant MAX_DEADLINE = 7 days;
    /// @dev Longest answer, in bytes.
    uint256 private constant MAX_ANSWER_LENGTH = 1024;
    /// @dev Longest cancel window, in seconds.
    uint256 private constant MAX_CANCEL_WINDOW = 10 minutes;

    /// @inheritdoc IInferenceCoordinator
    uint256 public immutable cancelWindow;

    mapping(bytes32 requestId => uint256 slot) private _requests;

    /// @dev What a report has earned so far with the model at hand, and in ether for its operator.
    struct Tally {
        uint256 modelId;
        uint256 unit;
        uint256 share;
        bool inToken;
        uint256 toPublisher;
        uint256 toOperator;
        uint256 etherToOperator;
    }

    /// @param owner_ First owner: it sets prices, shares and fees, pauses, and proposes operators.
    /// @param operators_ First operators, in rising order.
    /// @param quorum_ How many of them must sign a report.
    /// @param cancelWindow_ Seconds in which a request can be cancelled; zero for never.
    constructor(address owner_, address[] memory operators_, uint256 quorum_, uint256 cancelWindow_)
        OperatorSet(owner_, operators_, quorum_)
    {
        if (cancelWindow_ > MAX_CANCEL_WINDOW) revert CancelWindowTooLong(cancelWindow_, MAX_CANCEL_WINDOW);
        cancelWindow = cancelWindow_;
    }

    // ------------------------------------------------------------------------------------------------------------
    // Ask
    // ------------------------------------------------------------------------------------------------------------

    /// @inheritdoc IInferenceCoordinator
    function request(uint256 modelId, bytes calldata imageCid, uint256 callbackGas, uint256 deadline)
        external
        payable
        nonReentrant
        whenNotPaused
        returns (bytes32 requestId)
    {
        (uint256 slot, uint256 payment, address token) = _prepare(modelId, callbackGas, deadline, false);
        if (token != ETHER) revert ModelPricedInToken(modelId, token);
        if (msg.value < payment) revert PaymentTooLow(msg.value, payment);

        requestId = _open(slot, imageCid, payment, _useNonces(1));
        _payOut(msg.sender, msg.value - payment);
    }

    /// @inheritdoc IInferenceCoordinator
    function requestMany(uint256 modelId, bytes[] calldata imageCids, uint256 callbackGas, uint256 deadline)
        external
        payable
        nonReentrant
        whenNotPaused
        returns (bytes32[] memory requestIds)
    {
        (uint256 slot, uint256 payment, address token) = _prepare(modelId, callbackGas, deadline, false);
        if (token != ETHER) revert ModelPricedInToken(modelId, token);
        uint256 total = payment * imageCids.length;
        if (msg.value < total) revert PaymentTooLow(msg.value, total);

        requestIds = _openMany(slot, imageCids, payment);
        _payOut(msg.sender, msg.value - total);
    }

    /// @inheritdoc IInferenceCoordinator
    function requestFromBalance(
        uint256 modelId,
        bytes calldata imageCid,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) external nonReentrant whenNotPaused returns (bytes32 requestId) {
        (uint256 slot, uint256 payment, address token) = _prepare(modelId, callbackGas, deadline, true);
        _checkMaximum(payment, maxPayment);
        _debit(token, msg.sender, payment);
        requestId = _open(slot, imageCid, payment, _useNonces(1));
    }

    /// @inheritdoc IInferenceCoordinator
    function requestManyFromBalance(
        uint256 modelId,
        bytes[] calldata imageCids,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) external nonReentrant whenNotPaused returns (bytes32[] memory requestIds) {
        (uint256 slot, uint256 payment, address token) = _prepare(modelId, callbackGas, deadline, true);
        uint256 total = payment * imageCids.length;
        _checkMaximum(total, maxPayment);
        _debit(token, msg.sender, total);
        requestIds = _openMany(slot, imageCids, payment);
    }

    /// @inheritdoc IInferenceCoordinator
    function requestWithToken(
        uint256 modelId,
        bytes calldata imageCid,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) external nonReentrant whenNotPaused returns (bytes32 requestId) {
        (uint256 slot, uint256 payment, address token) = _prepareInToken(modelId, callbackGas, deadline, maxPayment);
        _pull(token, payment);
        requestId = _open(slot, imageCid, payment, _useNonces(1));
    }

    /// @inheritdoc IInferenceCoordinator
    function requestWithPermit(
        uint256 modelId,
        bytes calldata imageCid,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment,
        Permit calldata permit
    ) external nonReentrant whenNotPaused returns (bytes32 requestId) {
        (uint256 slot, uint256 payment, address token) = _prepareInToken(modelId, callbackGas, deadline, maxPayment);
        _usePermit(token, maxPayment, permit);
        _pull(token, payment);
        requestId = _open(slot, imageCid, payment, _useNonces(1));
    }

    /// @inheritdoc IInferenceCoordinator
    function cancel(RequestTerms calldata terms) external nonReentrant {
        bytes32 requestId = requestIdOf(msg.sender, terms);
        uint256 slot = _requests[requestId];
        uint256 end;
        unchecked {
            // No request was made at a time at which this overflows, and such terms are refused for their status.
            end = terms.createdAt + cancelWindow;
        }
        if (slot.status() != Status.Pending || block.timestamp >= end) {
            revert NotCancellable(requestId, slot.status(), end);
        }

        _requests[requestId] = slot.withStatus(Status.Cancelled);
        emit InferenceCancelled(requestId, msg.sender, terms.payment);
        _giveBack(slot, terms.payment);
    }

    /// @inheritdoc IInferenceCoordinator
    function refund(bytes32 requestId) external nonReentrant {
        uint256 slot = _requests[requestId];
        uint256 deadline = slot.isWhole() ? slot.deadline() : 0;
        if (slot.status() != Status.Pending || block.timestamp <= deadline) {
            revert NotRefundable(requestId, slot.status(), deadline);
        }
        uint256 payment = _paymentOf(slot);

        _requests[requestId] = slot.withStatus(Status.Refunded);
        emit InferenceRefunded(requestId, slot.requester(), payment);
        _giveBack(slot, payment);
    }

    // ------------------------------------------------------------------------------------------------------------
    // Answer
    // ------------------------------------------------------------------------------------------------------------

    /// @inheritdoc IInferenceCoordinator
    function report(Fulfilment[] calldata items) external nonReentrant {
        _checkAlone(msg.sender);
        _report(items, msg.sender);
    }

    /// @inheritdoc IInferenceCoordinator
    function reportSigned(bytes calldata items, address operator, Signature[] calldata signatures)
        external
        nonReentrant
    {
        _checkSignatures(items, operator, signatures);
        _report(_decoded(items), operator);
    }

    /// @inheritdoc IInferenceCoordinator
    function retryCallback(
        address requester,
        RequestTerms calldata terms,
        bytes calldata resultCid,
        bytes calldata answer
    ) external nonReentrant {
        bytes32 requestId = requestIdOf(requester, terms);
        uint256 slot = _requests[requestId];
        if (slot.status() != Status.CallbackFailed) revert NotRetriable(requestId, slot.status());
        if (!slot.commitsTo(_commitment(resultCid, answer))) revert ResultMismatch(requestId);

        _requests[requestId] = slot.withStatus(Status.Fulfilled);
        emit CallbackRetried(requestId);

        bytes memory data = abi.encodeCall(IInferenceConsumer.fulfillInference, (requestId, resultCid, answer));
        _requireGas(terms.callbackGas);
        if (!_call(requester, gasleft(), 0, data)) revert CallbackReverted(requestId);
    }

    // ------------------------------------------------------------------------------------------------------------
    // Look
    // ------------------------------------------------------------------------------------------------------------

    /// @inheritdoc IInferenceCoordinator
    function quote(uint256 modelId, uint256 callbackGas) external view returns (uint256 payment) {
        (uint256 price, uint256 unit,) = _priceOf(modelId, _callbackUnits(callbackGas));
        return price * unit;
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
            known.payment = _paymentOf(slot);
            known.deadline = slot.deadline();
        }
    }

    /// @inheritdoc IInferenceCoordinator
    function verifyResult(bytes32 requestId, bytes calldata resultCid, bytes calldata answer)
        external
        view
        returns (bool)
    {
        return _requests[requestId].commitsTo(_commitment(resultCid, answer));
    }

    /// @inheritdoc IInferenceCoordinator
    function requestIdOf(address requester, RequestTerms calldata terms) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                block.chainid,
                address(this),
                requester,
                terms.nonce,
                terms.modelId,
                terms.imageCid,
                terms.payment,
                terms.callbackGas,
                terms.deadline,
                terms.createdAt
            )
        );
    }

    // ------------------------------------------------------------------------------------------------------------
    // Inside
    // ------------------------------------------------------------------------------------------------------------

    /// @dev Checks what every way to ask has in common.
    /// @param toBalance Whether the money goes to the requester's balance when it goes back.
    /// @return slot Slot of the request.
    /// @return payment What it costs, in the token's smallest part.
    /// @return token Its token, the zero address for ether.
    function _prepare(uint256 modelId, uint256 callbackGas, uint256 deadline, bool toBalance)
        private
        view
        returns (uint256 slot, uint256 payment, address token)
    {
        if (deadline < block.timestamp + MIN_DEADLINE || deadline > block.timestamp + MAX_DEADLINE) {
            revert DeadlineOutOfRange(deadline, block.timestamp + MIN_DEADLINE, block.timestamp + MAX_DEADLINE);
        }
        uint256 units = _callbackUnits(callbackGas);
        uint256 unit;
        (payment, unit, token) = _priceOf(modelId, units);
        slot = RequestSlot.pending(msg.sender, payment, deadline, units, modelId, toBalance);
        payment *= unit;
    }

    /// @dev `_prepare` for a model that is priced in a token, which is about to be pulled.
    function _prepareInToken(uint256 modelId, uint256 callbackGas, uint256 deadline, uint256 maxPayment)
        private
        view
        returns (uint256 slot, uint256 payment, address token)
    {
        (slot, payment, token) = _prepare(modelId, callbackGas, deadline, true);
        if (token == ETHER) revert ModelPricedInEther(modelId);
        _checkMaximum(payment, maxPayment);
    }

    /// @dev Writes a request that is paid for.
    /// @return requestId Its id.
    function _open(uint256 slot, bytes calldata imageCid, uint256 payment, uint256 nonce)
        private
        returns (bytes32 requestId)
    {
        if (imageCid.formOf() == Cid.Form.None) revert InvalidCid(imageCid);
        uint256 modelId = slot.modelId();
        uint256 callbackGas = slot.units() * CALLBACK_GAS_UNIT;
        uint256 deadline = slot.deadline();
        requestId = keccak256(
            abi.encode(
                block.chainid,
                address(this),
                msg.sender,
                nonce,
                modelId,
                imageCid,
                payment,
                callbackGas,
                deadline,
                block.timestamp
            )
        );
        _requests[requestId] = slot;
        emit InferenceRequested(requestId, modelId, msg.sender, imageCid, payment, callbackGas, deadline, nonce);
    }

    /// @dev Writes a request for each image.
    /// @return requestIds Their ids, in order.
    function _openMany(uint256 slot, bytes[] calldata imageCids, uint256 payment)
        private
        returns (bytes32[] memory requestIds)
    {
        if (imageCids.length == 0) revert NothingAsked();
        uint256 nonce = _useNonces(imageCids.length);
        requestIds = new bytes32[](imageCids.length);
        for (uint256 i = 0; i < imageCids.length; ++i) {
            requestIds[i] = _open(slot, imageCids[i], payment, nonce + i);
        }
    }

    /// @dev Settles a report, then makes its callbacks and transfers.
    /// @param items Items of the report.
    /// @param operator Operator that is credited.
    function _report(Fulfilment[] calldata items, address operator) private {
        if (items.length == 0) revert EmptyReport();
        uint256[] memory owed = _settle(items, operator);
        for (uint256 i = 0; i < items.length; ++i) {
            uint256 slot = owed[i];
            if (slot == 0) continue;
            Fulfilment calldata item = items[i];
            if (item.failure == FailureReason.None) _callBack(item, slot);
            else _payOut(slot.requester(), _paymentOf(slot));
        }
    }

    /// @dev First half of a report: settles every item and writes every credit; calls nobody.
    /// @return owed For each item the slot it had while pending when a callback or a transfer is owed, else zero.
    function _settle(Fulfilment[] calldata items, address operator) private returns (uint256[] memory owed) {
        owed = new uint256[](items.length);
        Tally memory tally;
        for (uint256 i = 0; i < items.length; ++i) {
            Fulfilment calldata item = items[i];
            uint256 slot = _requests[item.requestId];
            if (slot.status() != Status.Pending || !_acceptable(item, slot)) {
                emit FulfilmentSkipped(item.requestId, slot.status());
                continue;
            }
            if (item.failure != FailureReason.None) {
                if (_fail(item, slot)) owed[i] = slot;
                continue;
            }

            // A batch is of one model, so what it earns is added up and written when the model changes.
            if (slot.modelId() != tally.modelId) _turnTo(slot.modelId(), tally, operator);
            unchecked {
                // Fits: a payment is below 2^70, a share at most all of it, and no report has 2^100 items
                uint256 payment = slot.payment() * tally.unit;
                uint256 cut = payment * tally.share / BASIS_POINTS;
                tally.toPublisher += cut;
                tally.toOperator += payment - cut;
            }

            _fulfil(item, slot);
            if (slot.units() != 0) owed[i] = slot;
        }
        _turnTo(0, tally, operator);
        if (tally.etherToOperator != 0) _credit(ETHER, operator, tally.etherToOperator);
    }

    /// @dev Writes what the model at hand has earned and turns to the next one.
    /// @param modelId Next model, zero for none.
    /// @param tally Changed in place.
    /// @param operator Operator that is credited.
    function _turnTo(uint256 modelId, Tally memory tally, address operator) private {
        // Fits: 2^48 requests of less than 2^70 each
        if (tally.toPublisher != 0) _terms[tally.modelId].earned += uint144(tally.toPublisher);
        if (tally.inToken) _credit(_tokenOf(tally.modelId), operator, tally.toOperator);
        else tally.etherToOperator += tally.toOperator;
        if (modelId == 0) return;

        ModelTerms storage terms = _terms[modelId];
        (tally.modelId, tally.unit, tally.share, tally.inToken) = (modelId, terms.unit, terms.share, terms.inToken);
        (tally.toPublisher, tally.toOperator) = (0, 0);
    }

    /// @dev Settles a pending request as answered. The event's data is what the slot commits to, so it is laid out
    /// once.
    function _fulfil(Fulfilment calldata item, uint256 slot) private {
        bytes32 requestId = item.requestId;
        bytes memory result = abi.encode(item.resultCid, item.answer);
        _requests[requestId] = slot.fulfilled(keccak256(result));
        bytes32 topic = InferenceFulfilled.selector;
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            log2(add(result, 0x20), mload(result), topic, requestId)
        }
    }

    /// @dev Settles a pending request as failed.
    /// @return owed Whether ether is to be sent, which is left to the second half of the report.
    function _fail(Fulfilment calldata item, uint256 slot) private returns (bool owed) {
        uint256 payment = _paymentOf(slot);
        _requests[item.requestId] = slot.failed(item.failure);
        emit InferenceFailed(item.requestId, item.failure);
        emit InferenceRefunded(item.requestId, slot.requester(), payment);
        if (!slot.toBalance()) return true;
        _giveBack(slot, payment);
    }

    /// @dev Gives a payment back, to the balance it came from or directly.
    function _giveBack(uint256 slot, uint256 payment) private {
        address requester = slot.requester();
        if (!slot.toBalance()) return _payOut(requester, payment);
        address token = _tokenOf(slot.modelId());
        _credit(token, requester, payment);
        emit Credited(token, requester, payment);
    }

    /// @dev Calls the requester back with the gas it paid for and records a failure; without code it cannot fail.
    /// @param item Item that was settled.
    /// @param slot Slot of its request while it was pending.
    function _callBack(Fulfilment calldata item, uint256 slot) private {
        uint256 callbackGas = slot.units() * CALLBACK_GAS_UNIT;
        bytes memory data =
            abi.encodeCall(IInferenceConsumer.fulfillInference, (item.requestId, item.resultCid, item.answer));
        _requireGas(callbackGas);
        if (_call(slot.requester(), callbackGas, 0, data)) return;
        _requests[item.requestId] = _requests[item.requestId].withStatus(Status.CallbackFailed);
        emit CallbackFailed(item.requestId);
    }

    /// @dev The items of a signed report, where they lie, once the signed bytes are found to be as `abi.encode` lays
    /// them out: an offset could lead out of them, to bytes of the sender's choice. Each item must begin where the one
    /// before it ended, and the last must end with them.
    /// @param encoded ABI encoding of one array of items: 32, its length, an offset for each item, the items.
    /// @return items The array.
    function _decoded(bytes calldata encoded) private pure returns (Fulfilment[] calldata items) {
        uint256 start;
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            start := add(encoded.offset, 64)
            items.offset := start
            items.length := calldataload(add(encoded.offset, 32))
        }
        if (encoded.length < 64 || items.length > encoded.length / 32) revert ItemsMalformed(encoded.length);
        // What was found differs from what must be found in these bits.
        // slither-disable-next-line incorrect-exp
        uint256 wrong = _wordAt(start - 64) ^ 32;
        unchecked {
            // Fits: a length of 2^32 is wrong, and there are fewer items than bytes of calldata
            uint256 next = 32 * items.length;
            for (uint256 i = 0; i < items.length; ++i) {
                uint256 item = start + next;
                uint256 cidLength = _wordAt(item + 128);
                uint256 toAnswer = 160 + _padded(cidLength);
                uint256 answerLength = _wordAt(item + toAnswer);
                // slither-disable-next-line incorrect-exp
                wrong |= (_wordAt(start + 32 * i) ^ next) | (_wordAt(item + 64) ^ 128);
                wrong |= (_wordAt(item + 96) ^ toAnswer) | ((cidLength | answerLength) >> 32);
                next += toAnswer + 32 + _padded(answerLength);
            }
            if (wrong != 0 || next != encoded.length - 64) revert ItemsMalformed(encoded.length);
        }
    }

    /// @dev Whether an item may settle its pending request: a failure always, an answer in time and in form.
    function _acceptable(Fulfilment calldata item, uint256 slot) private view returns (bool) {
        if (item.failure != FailureReason.None) return true;
        return block.timestamp <= slot.deadline() && item.resultCid.formOf() != Cid.Form.None
            && item.answer.length <= MAX_ANSWER_LENGTH;
    }

    /// @dev Payment of a request that was not answered, in the token's smallest part. What was paid by value is ether,
    /// and its model need not be read.
    function _paymentOf(uint256 slot) private view returns (uint256) {
        return slot.payment() * (slot.toBalance() ? _terms[slot.modelId()].unit : ETHER_UNIT);
    }

    /// @dev Callback gas in units, rounded up, or `CallbackGasTooHigh`.
    function _callbackUnits(uint256 callbackGas) private pure returns (uint256) {
        if (callbackGas > MAX_CALLBACK_GAS) revert CallbackGasTooHigh(callbackGas, MAX_CALLBACK_GAS);
        return (callbackGas + CALLBACK_GAS_UNIT - 1) / CALLBACK_GAS_UNIT;
    }

    /// @dev Reverts when a request would cost more than its requester agreed to.
    function _checkMaximum(uint256 payment, uint256 maxPayment) private pure {
        if (payment > maxPayment) revert PaymentAboveMaximum(payment, maxPayment);
    }

    /// @dev A length rounded up to whole words.
    function _padded(uint256 length) private pure returns (uint256) {
        unchecked {
            return (length + 31) & ~uint256(31);
        }
    }

    /// @dev A word of the calldata; past its end it is zero.
    function _wordAt(uint256 offset) private pure returns (uint256 word) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            word := calldataload(offset)
        }
    }

    /// @dev What an answered request's slot commits to.
    function _commitment(bytes calldata resultCid, bytes calldata answer) private pure returns (bytes32) {
        return keccak256(abi.encode(resultCid, answer));
    }
}
