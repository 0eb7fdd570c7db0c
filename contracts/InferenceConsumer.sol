// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IInferenceConsumer} from "./interfaces/IInferenceConsumer.sol";
import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";

/// @title InferenceConsumer
/// @notice Base of a contract that asks and is called back. Inherit it, call one of the `_request` functions, implement
/// `_onAnswer`.
/// @dev Only the coordinator may call back, only for a request that this contract made, and only once. Keep `_onAnswer`
/// inside the callback gas you ask for; when it reverts, the answer stands at the coordinator and `retryCallback`
/// delivers it later. A request that comes back is closed by `reclaim`, which anyone may call: what the sender of a
/// call paid (`_requestForSender`) goes on to that sender, what this contract paid stays with it.
abstract contract InferenceConsumer is IInferenceConsumer {
    /// @notice The coordinator that this contract asks.
    IInferenceCoordinator public immutable coordinator;

    /// @notice Wei that an account did not take when it was sent to it; `withdraw` pays it out.
    mapping(address account => uint256 amount) public owed;

    /// @dev Who paid for a request, for every request that was neither answered nor closed. This contract itself stands
    /// for what it paid on its own account.
    mapping(bytes32 requestId => address payer) private _payers;

    /// @notice A request came back and is closed; its payment, in the model's token, is its payer's again.
    event Reclaimed(bytes32 indexed requestId, address indexed payer, uint256 amount);

    /// @notice Only the coordinator may call back.
    error NotCoordinator(address caller);
    /// @notice This contract has no open request with this id.
    error UnknownRequest(bytes32 requestId);
    /// @notice The request was answered, so that its payment does not come back.
    error NotReclaimable(bytes32 requestId, IInferenceCoordinator.Status status);
    /// @notice This contract holds less ether than the request costs, in wei.
    error BalanceTooLow(uint256 balance, uint256 required);
    /// @notice Nothing is owed to the account.
    error NothingOwed(address account);
    /// @notice The receiver did not take the ether.
    error PaymentRefused(address to, uint256 amount);

    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) {
        coordinator = coordinator_;
    }

    /// @notice Takes refunds, and ether that pays for requests.
    /// @dev Not virtual: the coordinator keeps what is refused in a balance, out of reach of `reclaim`.
    receive() external payable {}

    /// @inheritdoc IInferenceConsumer
    function fulfillInference(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) external {
        if (msg.sender != address(coordinator)) revert NotCoordinator(msg.sender);
        if (!isOpen(requestId)) revert UnknownRequest(requestId);
        delete _payers[requestId];
        _onAnswer(requestId, resultCid, answer);
    }

    /// @notice Closes a request that failed, was cancelled or passed its deadline unanswered, and gives its payment
    /// back to the account that paid. Anyone may call.
    /// @dev Refunds the request first where nobody did. Reverts with `UnknownRequest`, `NotReclaimable`, or the
    /// coordinator's `NotRefundable` while an answer may still come.
    /// @param requestId Request to close.
    function reclaim(bytes32 requestId) external {
        address payer = _payers[requestId];
        if (payer == address(0)) revert UnknownRequest(requestId);
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        bool pending = known.status == IInferenceCoordinator.Status.Pending;
        // `Fulfilled` is seen here between the settling of a report and the callback that it owes us
        if (
            !pending && known.status != IInferenceCoordinator.Status.Failed
                && known.status != IInferenceCoordinator.Status.Refunded
                && known.status != IInferenceCoordinator.Status.Cancelled
        ) revert NotReclaimable(requestId, known.status);

        delete _payers[requestId];
        emit Reclaimed(requestId, payer, known.payment);
        _onReturn(requestId);
        if (pending) coordinator.refund(requestId);
        if (payer != address(this)) _pay(payer, known.payment);
    }

    /// @notice Pays out what is owed to the caller.
    /// @param to Account that receives it.
    function withdraw(address to) external {
        uint256 amount = owed[msg.sender];
        if (amount == 0) revert NothingOwed(msg.sender);
        delete owed[msg.sender];
        if (!_send(to, amount)) revert PaymentRefused(to, amount);
    }

    /// @notice Whether this contract made a request that was neither answered nor closed.
    /// @param requestId Request to look for.
    /// @return True while an answer would be accepted.
    function isOpen(bytes32 requestId) public view returns (bool) {
        return _payers[requestId] != address(0);
    }

    /// @dev Asks for a prediction and lets the sender of the current call pay the exact price, out of its value. Once
    /// in a call: a second request would spend the same value again, out of what this contract holds for others.
    /// @param modelId Model to ask; it is priced in ether.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Gas that `_onAnswer` needs, with some 10,000 for what is around it.
    /// @param deadline Last second, Unix time, for the answer.
    /// @return requestId Id of the request.
    /// @return rest Wei left over. Give it back with `_pay`, as the last step, after everything is written.
    function _requestForSender(uint256 modelId, bytes memory imageCid, uint256 callbackGas, uint256 deadline)
        internal
        returns (bytes32 requestId, uint256 rest)
    {
        uint256 payment = coordinator.quote(modelId, callbackGas);
        if (msg.value < payment) revert IInferenceCoordinator.PaymentTooLow(msg.value, payment);
        requestId = coordinator.request{value: payment}(modelId, imageCid, callbackGas, deadline);
        _payers[requestId] = msg.sender;
        rest = msg.value - payment;
    }

    /// @dev Asks for a prediction and pays the exact price out of the ether that this contract holds, in which the
    /// value of the current call is contained.
    /// @param modelId Model to ask; it is priced in ether.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Gas that `_onAnswer` needs, with some 10,000 for what is around it.
    /// @param deadline Last second, Unix time, for the answer.
    /// @param maxPayment Most that is paid: its publisher can raise a model's price at any time.
    /// @return requestId Id of the request.
    /// @return payment Wei paid.
    function _request(uint256 modelId, bytes memory imageCid, uint256 callbackGas, uint256 deadline, uint256 maxPayment)
        internal
        returns (bytes32 requestId, uint256 payment)
    {
        payment = coordinator.quote(modelId, callbackGas);
        _checkPayment(payment, maxPayment);
        requestId = coordinator.request{value: payment}(modelId, imageCid, callbackGas, deadline);
        _payers[requestId] = address(this);
    }

    /// @dev `_request` for several pictures, each with a callback of its own.
    /// @param modelId Model to ask; it is priced in ether.
    /// @param imageCids CIDs of the pictures.
    /// @param callbackGas Gas that `_onAnswer` needs for one picture.
    /// @param deadline Last second, Unix time, for the answers.
    /// @param maxPayment Most that is paid for all of them.
    /// @return requestIds Ids of the requests, in the order of the pictures.
    /// @return payment Wei paid for all of them.
    function _requestMany(
        uint256 modelId,
        bytes[] memory imageCids,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) internal returns (bytes32[] memory requestIds, uint256 payment) {
        payment = coordinator.quote(modelId, callbackGas) * imageCids.length;
        _checkPayment(payment, maxPayment);
        requestIds = coordinator.requestMany{value: payment}(modelId, imageCids, callbackGas, deadline);
        for (uint256 i = 0; i < requestIds.length; ++i) {
            _payers[requestIds[i]] = address(this);
        }
    }

    /// @dev Asks for a prediction and pays from the balance that this contract has at the coordinator, in the model's
    /// token. Money that comes back goes there too.
    /// @param modelId Model to ask.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Gas that `_onAnswer` needs, with some 10,000 for what is around it.
    /// @param deadline Last second, Unix time, for the answer.
    /// @param maxPayment Most that is paid.
    /// @return requestId Id of the request.
    function _requestFromBalance(
        uint256 modelId,
        bytes memory imageCid,
        uint256 callbackGas,
        uint256 deadline,
        uint256 maxPayment
    ) internal returns (bytes32 requestId) {
        requestId = coordinator.requestFromBalance(modelId, imageCid, callbackGas, deadline, maxPayment);
        _payers[requestId] = address(this);
    }

    /// @dev Sends ether to its owner, or keeps it for them in `owed` when they do not take it, so that a receiver who
    /// refuses stops nobody else. It hands control over: call it last.
    /// @param to Owner of the ether.
    /// @param amount Wei to send; nothing happens for zero.
    function _pay(address to, uint256 amount) internal {
        if (amount != 0 && !_send(to, amount)) owed[to] += amount;
    }

    /// @dev Called once for each answered request.
    /// @param requestId Request that is answered.
    /// @param resultCid CID of the full result.
    /// @param answer Compact answer; see `ClassificationAnswer` and `SegmentationAnswer`.
    function _onAnswer(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) internal virtual;

    /// @dev Called once for each request that `reclaim` closes, before its payment moves. It is not to revert.
    /// @param requestId Request that will have no answer.
    function _onReturn(bytes32 requestId) internal virtual {} // solhint-disable-line no-empty-blocks

    /// @dev Sends ether with all the gas there is, so that who starves the receiver has none left to go on with.
    /// Nothing that the receiver returns is copied, so that it cannot make us run out of gas.
    /// @return success Whether it was taken.
    function _send(address to, uint256 amount) private returns (bool success) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            success := call(gas(), to, amount, 0, 0, 0, 0)
        }
    }

    /// @dev Reverts unless a payment is agreed to and there.
    function _checkPayment(uint256 payment, uint256 maxPayment) private view {
        if (payment > maxPayment) revert IInferenceCoordinator.PaymentAboveMaximum(payment, maxPayment);
        if (address(this).balance < payment) revert BalanceTooLow(address(this).balance, payment);
    }
}
