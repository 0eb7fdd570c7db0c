// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";

/// @title RequestSlot
/// @notice The one storage slot of a request, packed and unpacked. From the highest bit:
///
///     Pending, Refunded,
///     Cancelled           requester 160 | payment 40 | deadline 32 | units   8 | model 12 | to balance 1 | status 3
///     Failed              requester 160 | payment 40 | deadline 32 | failure 8 | model 12 | to balance 1 | status 3
///     Fulfilled,
///     CallbackFailed      commitment 232                           | units   8 | model 12 | to balance 1 | status 3
///
/// @dev Units are of callback gas. The payment is in units of the model's token (gwei for ether). "To balance" says
/// where money goes that goes back: to the requester's balance, for what was paid from it or in tokens, or directly.
/// The commitment is the first 232 bits of `keccak256(abi.encode(resultCid, answer))`: to find two results with one
/// commitment takes about 2^116 hashes. Payee and refund follow from the slot and its model.
library RequestSlot {
    uint256 private constant REQUESTER_SHIFT = 96;
    uint256 private constant PAYMENT_SHIFT = 56;
    uint256 private constant DEADLINE_SHIFT = 24;
    /// @dev Callback units, or the reason of a failure.
    uint256 private constant UNITS_SHIFT = 16;
    uint256 private constant MODEL_SHIFT = 4;

    uint256 private constant STATUS_MASK = 0x7;
    uint256 private constant TO_BALANCE = 0x8;
    uint256 private constant MODEL_MASK = 0xfff;
    uint256 private constant UNITS_MASK = 0xff;
    /// @dev Callback units, model, balance bit and status: what stays beside a commitment.
    uint256 private constant TAIL_MASK = 0xffffff;

    /// @notice The slot of a new request. Every value must fit; the callers' bounds see to it.
    /// @param requester_ Account that asks.
    /// @param payment_ Payment in units of the model's token, below 2^40.
    /// @param deadline_ Deadline in Unix seconds, below 2^32.
    /// @param units_ Callback gas in units, below 2^8.
    /// @param modelId_ Model asked, below 2^12.
    /// @param toBalance_ Whether money that goes back goes to the requester's balance.
    /// @return The slot, with status `Pending`.
    function pending(
        address requester_,
        uint256 payment_,
        uint256 deadline_,
        uint256 units_,
        uint256 modelId_,
        bool toBalance_
    ) internal pure returns (uint256) {
        return (uint256(uint160(requester_)) << REQUESTER_SHIFT) | (payment_ << PAYMENT_SHIFT)
            | (deadline_ << DEADLINE_SHIFT) | (units_ << UNITS_SHIFT) | (modelId_ << MODEL_SHIFT)
            | (toBalance_ ? TO_BALANCE : 0) | uint256(IInferenceCoordinator.Status.Pending);
    }

    /// @notice The slot after an answer.
    /// @param slot The pending slot.
    /// @param commitment Hash of result CID and answer.
    /// @return The slot, with status `Fulfilled`.
    function fulfilled(uint256 slot, bytes32 commitment) internal pure returns (uint256) {
        return
            withStatus((uint256(commitment) & ~TAIL_MASK) | (slot & TAIL_MASK), IInferenceCoordinator.Status.Fulfilled);
    }

    /// @notice The slot after a failure; the reason takes the place of the callback units.
    /// @param slot The pending slot.
    /// @param reason Why there is no answer.
    /// @return The slot, with status `Failed`.
    function failed(uint256 slot, IInferenceCoordinator.FailureReason reason) internal pure returns (uint256) {
        return withStatus(
            (slot & ~(UNITS_MASK << UNITS_SHIFT)) | (uint256(reason) << UNITS_SHIFT),
            IInferenceCoordinator.Status.Failed
        );
    }

    /// @notice The same slot with another status.
    /// @param slot A slot.
    /// @param newStatus Its new status.
    /// @return The changed slot.
    function withStatus(uint256 slot, IInferenceCoordinator.Status newStatus) internal pure returns (uint256) {
        return (slot & ~STATUS_MASK) | uint256(newStatus);
    }

    /// @notice Status of a request; an empty slot is `Unknown`.
    function status(uint256 slot) internal pure returns (IInferenceCoordinator.Status) {
        return IInferenceCoordinator.Status(slot & STATUS_MASK);
    }

    /// @notice Model of a request, in every status.
    function modelId(uint256 slot) internal pure returns (uint256) {
        return (slot >> MODEL_SHIFT) & MODEL_MASK;
    }

    /// @notice Callback units of a request that is not `Failed`.
    function units(uint256 slot) internal pure returns (uint256) {
        return (slot >> UNITS_SHIFT) & UNITS_MASK;
    }

    /// @notice Reason of a request that is `Failed`.
    function failure(uint256 slot) internal pure returns (IInferenceCoordinator.FailureReason) {
        return IInferenceCoordinator.FailureReason((slot >> UNITS_SHIFT) & UNITS_MASK);
    }

    /// @notice Requester of a request that was not answered.
    function requester(uint256 slot) internal pure returns (address) {
        return address(uint160(slot >> REQUESTER_SHIFT));
    }

    /// @notice Payment, in units of the model's token, of a request that was not answered.
    function payment(uint256 slot) internal pure returns (uint256) {
        return uint40(slot >> PAYMENT_SHIFT);
    }

    /// @notice Whether money that goes back goes to the requester's balance.
    function toBalance(uint256 slot) internal pure returns (bool) {
        return slot & TO_BALANCE != 0;
    }

    /// @notice Deadline in Unix seconds of a request that was not answered.
    function deadline(uint256 slot) internal pure returns (uint256) {
        return uint32(slot >> DEADLINE_SHIFT);
    }

    /// @notice Whether the slot still holds requester, payment and deadline.
    function isWhole(uint256 slot) internal pure returns (bool) {
        IInferenceCoordinator.Status current = status(slot);
        return
            current != IInferenceCoordinator.Status.Fulfilled && current != IInferenceCoordinator.Status.CallbackFailed;
    }

    /// @notice Whether an answered request's slot holds this commitment.
    /// @param slot A slot.
    /// @param commitment Hash of result CID and answer.
    /// @return True for an answered request with this commitment.
    function commitsTo(uint256 slot, bytes32 commitment) internal pure returns (bool) {
        return !isWhole(slot) && (slot | TAIL_MASK) == (uint256(commitment) | TAIL_MASK);
    }
}
