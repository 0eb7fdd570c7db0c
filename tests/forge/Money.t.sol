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
        emit IInferenceCoordinator.Credited(ETHER, address(refuser), PRICE);
        coordinator.refund(requestId);
        vm.assertEq(balanceOf(address(refuser)), PRICE);
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

    function test_Withdraw_GivenTooLittle_ItReverts() external {
        reportOne(success(ask()));
        uint256 held = balanceOf(operator);
        expectBalanceTooLow(stranger, 0, 1);
        expectBalanceTooLow(operator, held, held + 1);
        expectBalanceTooLow(operator, held, type(uint256).max);
    }

    function test_Withdraw_GivenTheZeroAddress_ItReverts() external {
        reportOne(success(ask()));
        vm.expectRevert(IInferenceCoordinator.ZeroAddress.selector);
        vm.prank(operator);
        coordinator.withdraw(ETHER, address(0), 1);
    }

    function test_Withdraw_GivenTheReceiverRefuses_ItReverts() external {
        reportOne(success(ask()));
        EtherRefuser refuser = new EtherRefuser(coordinator);
        uint256 held = balanceOf(operator);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.TransferFailed.selector, address(refuser), held));
        vm.prank(operator);
        coordinator.withdraw(ETHER, address(refuser), held);
        vm.assertEq(balanceOf(operator), held);
    }

    function test_Withdraw_GivenABalance_ItPaysAllOfItOnce() external {
        reportOne(success(ask()));
        reportOne(success(ask()));
        vm.prank(owner);
        coordinator.pause();
        uint256 held = 2 * PRICE * 7 / 10;
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Withdrawn(ETHER, operator, stranger, held);
        vm.prank(operator);
        coordinator.withdraw(ETHER, stranger, held);
        vm.assertEq(stranger.balance, held);
        vm.assertEq(balanceOf(operator), 0);
        vm.assertEq(address(coordinator).balance, coordinator.earningsOf(modelId));
        expectBalanceTooLow(operator, 0, held);
    }

    function testFuzz_Withdraw_GivenAPart_TheRestStays(uint96 held, uint96 wanted) external {
        uint256 part = bound(wanted, 0, held);
        vm.deal(person, held);
        vm.startPrank(person);
        coordinator.deposit{value: held}();
        coordinator.withdraw(ETHER, stranger, part);
        vm.stopPrank();
        vm.assertEq(stranger.balance, part);
        vm.assertEq(balanceOf(person), held - part);
        vm.assertEq(address(coordinator).balance, held - part);
    }

    function test_Withdraw_GivenAnOperator_ItStaysOne() external {
        reportOne(success(ask()));
        uint256 held = balanceOf(operator);
        vm.prank(operator);
        coordinator.withdraw(ETHER, operator, held);
        vm.assertTrue(coordinator.isOperator(operator));
    }

    function test_Withdraw_GivenReentry_ItPaysOnce() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        vm.deal(address(consumer), 2 ether);
        vm.prank(address(consumer));
        coordinator.deposit{value: 2 ether}();
        consumer.prepare(abi.encodeCall(IInferenceCoordinator.withdraw, (ETHER, address(consumer), 1 ether)), 0);
        vm.prank(address(consumer));
        coordinator.withdraw(ETHER, address(consumer), 1 ether);
        vm.assertEq(consumer.tries(), 1);
        vm.assertEq(consumer.breaches(), 0);
        vm.assertEq(address(consumer).balance, 1 ether);
        vm.assertEq(balanceOf(address(consumer)), 1 ether);
    }

    function expectBalanceTooLow(address account, uint256 held, uint256 wanted) private {
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.BalanceTooLow.selector, ETHER, account, held, wanted)
        );
        vm.prank(account);
        coordinator.withdraw(ETHER, stranger, wanted);
    }

    function expectNotRefundable(bytes32 requestId, IInferenceCoordinator.Status status, uint256 deadline) private {
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.NotRefundable.selector, requestId, status, deadline)
        );
        coordinator.refund(requestId);
    }
}
