// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EtherRefuser} from "../../contracts/mocks/EtherRefuser.sol";
import {RecordingConsumer} from "../../contracts/mocks/RecordingConsumer.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";

contract MoneyTest is CoordinatorTest {
    function test_Refund_GivenTheDeadlineHasNotPassed_ItReverts() external {
        bytes32 requestId = ask();
        expectNotRefundable(requestId, IInferenceCoordinator.Status.Pending, NOW + 1 hours);
        vm.warp(NOW + 1 hours);
        expectNotRefundable(requestId, IInferenceCoordinator.Status.Pending, NOW + 1 hours);
        vm.warp(NOW + 1 hours + 1);
        coordinator.refund(requestId);
    }

    function test_Refund_GivenUnknownOrSettled_ItReverts() external {
        bytes32 fulfilled = ask();
        bytes32 failed = ask();
        bytes32 refunded = ask();
        reportOne(success(fulfilled));
        reportOne(failure(failed));
        vm.warp(NOW + 2 hours);
        coordinator.refund(refunded);
        expectNotRefundable(keccak256("never"), IInferenceCoordinator.Status.Unknown, 0);
        expectNotRefundable(fulfilled, IInferenceCoordinator.Status.Fulfilled, 0);
        expectNotRefundable(failed, IInferenceCoordinator.Status.Failed, NOW + 1 hours);
        expectNotRefundable(refunded, IInferenceCoordinator.Status.Refunded, NOW + 1 hours);
    }

    function test_Refund_GivenTheDeadlinePassed_AnyoneReturnsThePayment() external {
        uint256 before = person.balance;
        bytes32 requestId = askWith(70_000);
        vm.warp(NOW + 2 hours);
        vm.prank(owner);
        coordinator.pause();
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceRefunded(requestId, person, PRICE + 70_000 gwei);
        vm.prank(stranger);
        coordinator.refund(requestId);

        vm.assertEq(person.balance, before);
        vm.assertEq(address(coordinator).balance, 0);
        assertStatus(requestId, IInferenceCoordinator.Status.Refunded);
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        vm.assertEq(known.requester, person);
        vm.assertEq(known.payment, PRICE + 70_000 gwei);
        vm.assertEq(known.deadline, NOW + 1 hours);
        vm.assertEq(known.callbackGas, 70_000);
    }

    function test_Refund_GivenTheRequesterRefuses_ItCredits() external {
        EtherRefuser refuser = new EtherRefuser(coordinator);
        bytes32 requestId = askFrom(refuser, 0);
        vm.warp(NOW + 2 hours);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Credited(address(refuser), PRICE);
        coordinator.refund(requestId);
        vm.assertEq(coordinator.creditOf(address(refuser)), PRICE);
        refuser.withdrawTo(stranger);
        vm.assertEq(stranger.balance, PRICE);
    }

    function test_Refund_GivenReentry_ItGoesNowhere() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        bytes32 requestId = askFrom(consumer, 0);
        bytes32 other = ask();
        vm.warp(NOW + 2 hours);
        consumer.prepare(abi.encodeCall(IInferenceCoordinator.refund, (other)), 0);
        coordinator.refund(requestId);
        vm.assertEq(consumer.breaches(), 0);
        assertStatus(other, IInferenceCoordinator.Status.Pending);
    }

    function test_Refund_GivenTooLittleGas_ItReverts() external {
        bytes32 requestId = askFrom(new RecordingConsumer(coordinator), 0);
        vm.warp(NOW + 2 hours);
        (bool done, bytes memory reason) =
            address(coordinator).call{gas: 85_000}(abi.encodeCall(IInferenceCoordinator.refund, (requestId)));
        vm.assertFalse(done);
        vm.assertEq(bytes32(bytes4(reason)), bytes32(IInferenceCoordinator.InsufficientGas.selector));
    }

    function test_Withdraw_GivenNoCredit_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NothingToWithdraw.selector, stranger));
        vm.prank(stranger);
        coordinator.withdraw(stranger);
    }

    function test_Withdraw_GivenTheZeroAddress_ItReverts() external {
        reportOne(success(ask()));
        vm.expectRevert(IInferenceCoordinator.ZeroAddress.selector);
        vm.prank(operator);
        coordinator.withdraw(address(0));
    }

    function test_Withdraw_GivenTheReceiverRefuses_ItReverts() external {
        reportOne(success(ask()));
        EtherRefuser refuser = new EtherRefuser(coordinator);
        uint256 credit = coordinator.creditOf(operator);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.TransferFailed.selector, address(refuser), credit));
        vm.prank(operator);
        coordinator.withdraw(address(refuser));
        vm.assertEq(coordinator.creditOf(operator), credit);
    }

    function test_Withdraw_GivenACredit_ItPaysAllOfItOnce() external {
        reportOne(success(ask()));
        reportOne(success(ask()));
        vm.prank(owner);
        coordinator.pause();
        uint256 credit = 2 * PRICE * 7 / 10;
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Withdrawn(operator, stranger, credit);
        vm.prank(operator);
        uint256 paid = coordinator.withdraw(stranger);
        vm.assertEq(paid, credit);
        vm.assertEq(stranger.balance, credit);
        vm.assertEq(coordinator.creditOf(operator), 0);
        vm.assertEq(address(coordinator).balance, coordinator.creditOf(payout));
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NothingToWithdraw.selector, operator));
        vm.prank(operator);
        coordinator.withdraw(stranger);
    }

    function test_Withdraw_GivenReentry_ItPaysOnce() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        coordinator.publishModel(cid("manifest"), PRICE, address(consumer));
        vm.prank(person);
        bytes32 requestId = coordinator.request{value: PRICE}(2, cid("picture"), 0, NOW + 1 hours);
        reportOne(success(requestId));
        consumer.prepare(abi.encodeCall(IInferenceCoordinator.withdraw, (address(consumer))), 0);
        consumer.withdrawTo(address(consumer));
        vm.assertEq(consumer.tries(), 1);
        vm.assertEq(consumer.breaches(), 0);
        vm.assertEq(address(consumer).balance, PRICE * 3 / 10);
    }

    function expectNotRefundable(bytes32 requestId, IInferenceCoordinator.Status status, uint256 deadline) private {
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.NotRefundable.selector, requestId, status, deadline)
        );
        coordinator.refund(requestId);
    }
}
