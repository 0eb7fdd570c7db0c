// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EtherRefuser} from "../../contracts/mocks/EtherRefuser.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";

contract CancelTest is CoordinatorTest {
    function test_InTheWindow_ItReturnsTheWholePayment() external {
        uint256 before = person.balance;
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 70_000);
        bytes32 requestId = askWith(70_000);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceCancelled(requestId, person, PRICE + 70_000 gwei);
        vm.prank(person);
        coordinator.cancel(terms);

        vm.assertEq(person.balance, before);
        vm.assertEq(address(coordinator).balance, 0);
        assertStatus(requestId, IInferenceCoordinator.Status.Cancelled);
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        vm.assertEq(known.requester, person);
        vm.assertEq(known.modelId, modelId);
        vm.assertEq(known.payment, PRICE + 70_000 gwei);
        vm.assertEq(known.callbackGas, 70_000);
        vm.assertEq(known.deadline, NOW + 1 hours);
        vm.assertEq(uint256(known.failure), 0);
    }

    function testFuzz_ItCanBeCancelledExactlyAsLongAsTheWindow(uint256 window, uint256 later) external {
        window = bound(window, 0, 10 minutes);
        later = bound(later, 0, 20 minutes);
        useWindow(window);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        bytes32 requestId = ask();
        vm.warp(NOW + later);
        if (later >= window) {
            expectRefusal(requestId, IInferenceCoordinator.Status.Pending, NOW + window);
        }
        vm.prank(person);
        coordinator.cancel(terms);
        assertStatus(
            requestId, later < window ? IInferenceCoordinator.Status.Cancelled : IInferenceCoordinator.Status.Pending
        );
    }

    function test_OnTheLastSecond_ItIsCancelled_AndNotOneLater() external {
        IInferenceCoordinator.RequestTerms memory first = termsOf(0, 0);
        IInferenceCoordinator.RequestTerms memory second = termsOf(1, 0);
        ask();
        bytes32 late = ask();
        vm.warp(NOW + CANCEL_WINDOW - 1);
        vm.prank(person);
        coordinator.cancel(first);
        vm.warp(NOW + CANCEL_WINDOW);
        expectRefusal(late, IInferenceCoordinator.Status.Pending, NOW + CANCEL_WINDOW);
        vm.prank(person);
        coordinator.cancel(second);
    }

    function test_GivenAWindowOfZero_ItNeverCan() external {
        useWindow(0);
        vm.assertEq(coordinator.cancelWindow(), 0);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        bytes32 requestId = ask();
        expectRefusal(requestId, IInferenceCoordinator.Status.Pending, NOW);
        vm.prank(person);
        coordinator.cancel(terms);
    }

    function test_GivenAWindowTooLong_ItCannotBeDeployed() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.CancelWindowTooLong.selector, 601, 600));
        deployCoordinator(owner, only(operator), 1, 601);
        useWindow(600);
        vm.assertEq(coordinator.cancelWindow(), 600);
    }

    function test_GivenAnotherCaller_ItReverts() external {
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        bytes32 requestId = ask();
        address[3] memory others = [stranger, operator, owner];
        for (uint256 i = 0; i < others.length; ++i) {
            expectRefusal(
                coordinator.requestIdOf(others[i], terms), IInferenceCoordinator.Status.Unknown, NOW + CANCEL_WINDOW
            );
            vm.prank(others[i]);
            coordinator.cancel(terms);
        }
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
    }

    function test_GivenOtherTerms_ItReverts() external {
        bytes32 requestId = ask();
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        vm.warp(NOW + CANCEL_WINDOW);
        // A later creation would lengthen the window, a higher payment would take from others.
        terms.createdAt = NOW + CANCEL_WINDOW;
        expectUnknown(terms);
        terms.createdAt = type(uint256).max - CANCEL_WINDOW;
        expectUnknown(terms);
        vm.warp(NOW);
        terms.createdAt = NOW;
        terms.payment = 2 * PRICE;
        expectUnknown(terms);
        terms.payment = PRICE;
        terms.nonce = 1;
        expectUnknown(terms);
        terms.nonce = 0;
        terms.imageCid = cid("another picture");
        expectUnknown(terms);
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
    }

    function test_GivenASettledRequest_ItReverts() external {
        expectNotCancellable(0, IInferenceCoordinator.Status.Unknown);
        IInferenceCoordinator.RequestTerms memory cancelled = termsOf(0, 0);
        ask();
        vm.prank(person);
        coordinator.cancel(cancelled);
        expectNotCancellable(0, IInferenceCoordinator.Status.Cancelled);
        reportOne(success(ask()));
        expectNotCancellable(1, IInferenceCoordinator.Status.Fulfilled);
        reportOne(failure(ask()));
        expectNotCancellable(2, IInferenceCoordinator.Status.Failed);
        vm.assertEq(address(coordinator).balance, PRICE);
    }

    function test_GivenARefundedRequest_ItReverts() external {
        useWindow(10 minutes);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        terms.deadline = NOW + 30 seconds;
        vm.prank(person);
        bytes32 requestId = coordinator.request{value: PRICE}(modelId, cid("picture"), 0, terms.deadline);
        vm.warp(NOW + 31 seconds);
        coordinator.refund(requestId);
        expectRefusal(requestId, IInferenceCoordinator.Status.Refunded, NOW + 10 minutes);
        vm.prank(person);
        coordinator.cancel(terms);
    }

    function test_GivenCancelled_NothingElseSettlesIt() external {
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        bytes32 requestId = ask();
        ask();
        vm.prank(person);
        coordinator.cancel(terms);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.FulfilmentSkipped(requestId, IInferenceCoordinator.Status.Cancelled);
        reportOne(success(requestId));
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.FulfilmentSkipped(requestId, IInferenceCoordinator.Status.Cancelled);
        reportOne(failure(requestId));
        vm.warp(NOW + 2 hours);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.NotRefundable.selector,
                requestId,
                IInferenceCoordinator.Status.Cancelled,
                NOW + 1 hours
            )
        );
        coordinator.refund(requestId);
        vm.assertFalse(coordinator.verifyResult(requestId, cid("result"), answerOf(7, 9876)));
        vm.assertEq(address(coordinator).balance, PRICE);
    }

    function test_GivenPaused_ItIsCancelled() external {
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        bytes32 requestId = ask();
        vm.prank(owner);
        coordinator.pause();
        vm.prank(person);
        coordinator.cancel(terms);
        assertStatus(requestId, IInferenceCoordinator.Status.Cancelled);
    }

    function test_GivenPaidFromTheBalance_ItGoesBackThere() external {
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        vm.startPrank(person);
        coordinator.deposit{value: 1 ether}();
        coordinator.requestFromBalance(modelId, cid("picture"), 0, NOW + 1 hours, PRICE);
        vm.assertEq(balanceOf(person), 1 ether - PRICE);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Credited(ETHER, person, PRICE);
        coordinator.cancel(terms);
        vm.stopPrank();
        vm.assertEq(balanceOf(person), 1 ether);
        vm.assertEq(person.balance, 999 ether);
    }

    function test_GivenTheRequesterRefusesTheMoney_ItGoesToItsBalance() external {
        EtherRefuser refuser = new EtherRefuser(coordinator);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        askFrom(refuser, 0);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Credited(ETHER, address(refuser), PRICE);
        refuser.cancel(terms);
        vm.assertEq(balanceOf(address(refuser)), PRICE);
    }

    function test_GivenReentry_ItPaysOnce() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        askFrom(consumer, 0);
        ask();
        consumer.prepare(abi.encodeCall(IInferenceCoordinator.cancel, (terms)), 0);
        consumer.cancel(terms);
        vm.assertEq(consumer.tries(), 1);
        vm.assertEq(consumer.breaches(), 0);
        vm.assertEq(address(consumer).balance, PRICE);
        vm.assertEq(address(coordinator).balance, PRICE);
    }

    function useWindow(uint256 window) private {
        coordinator = deployCoordinator(owner, only(operator), 1, window);
        modelId = publish(PRICE, ETHER);
    }

    function expectRefusal(bytes32 requestId, IInferenceCoordinator.Status status, uint256 end) private {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotCancellable.selector, requestId, status, end));
    }

    function expectUnknown(IInferenceCoordinator.RequestTerms memory terms) private {
        expectRefusal(
            coordinator.requestIdOf(person, terms),
            IInferenceCoordinator.Status.Unknown,
            terms.createdAt + CANCEL_WINDOW
        );
        vm.prank(person);
        coordinator.cancel(terms);
    }

    function expectNotCancellable(uint256 nonce, IInferenceCoordinator.Status status) private {
        IInferenceCoordinator.RequestTerms memory terms = termsOf(nonce, 0);
        expectRefusal(coordinator.requestIdOf(person, terms), status, NOW + CANCEL_WINDOW);
        vm.prank(person);
        coordinator.cancel(terms);
    }
}
