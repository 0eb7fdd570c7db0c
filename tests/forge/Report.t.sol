// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EtherRefuser} from "../../contracts/mocks/EtherRefuser.sol";
import {GasBurner} from "../../contracts/mocks/GasBurner.sol";
import {RecordingConsumer} from "../../contracts/mocks/RecordingConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";

contract ReportTest is CoordinatorTest {
    function test_GivenNoOperator_ItReverts() external {
        bytes32 requestId = ask();
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, stranger));
        vm.prank(stranger);
        coordinator.report(one(success(requestId)));
    }

    function test_GivenNoItems_ItReverts() external {
        vm.expectRevert(IInferenceCoordinator.EmptyReport.selector);
        vm.prank(operator);
        coordinator.report(new IInferenceCoordinator.Fulfilment[](0));
    }

    function test_ItCreditsPublisherAndOperator() external {
        bytes32 requestId = askWith(20_000);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceFulfilled(requestId, cid("result"), answerOf(7, 9876));
        reportOne(success(requestId));
        uint256 payment = PRICE + 20_000 gwei;
        vm.assertEq(coordinator.earningsOf(modelId), payment * 3000 / 10_000);
        vm.assertEq(balanceOf(operator), payment * 7000 / 10_000);
        vm.assertEq(address(coordinator).balance, payment);
    }

    function test_ItKeepsWhatVerifiesTheResult() external {
        bytes32 requestId = askWith(20_000);
        vm.assertFalse(coordinator.verifyResult(requestId, cid("result"), answerOf(7, 9876)));
        reportOne(success(requestId));
        vm.assertTrue(coordinator.verifyResult(requestId, cid("result"), answerOf(7, 9876)));
        vm.assertFalse(coordinator.verifyResult(requestId, cid("other"), answerOf(7, 9876)));
        vm.assertFalse(coordinator.verifyResult(requestId, cid("result"), answerOf(7, 9875)));

        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.assertEq(known.modelId, modelId);
        vm.assertEq(known.callbackGas, 20_000);
        vm.assertEq(known.requester, address(0));
        vm.assertEq(known.payment, 0);
        vm.assertEq(known.deadline, 0);
    }

    function test_GivenARequestThatIsNotAnswered_NothingVerifies() external {
        bytes32 failed = ask();
        reportOne(failure(failed));
        vm.assertFalse(coordinator.verifyResult(failed, "", ""));
        vm.assertFalse(coordinator.verifyResult(keccak256("never"), "", ""));
    }

    function test_ItSettlesOnTheLastSecond() external {
        bytes32 requestId = ask();
        vm.warp(NOW + 1 hours);
        reportOne(success(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_GivenAFailure_ItReturnsTheMoneyAndKeepsTheReason() external {
        uint256 before = person.balance;
        bytes32 requestId = askWith(10_000);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceFailed(requestId, IInferenceCoordinator.FailureReason.ImageUnreadable);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceRefunded(requestId, person, PRICE + 10_000 gwei);
        reportOne(failure(requestId));

        vm.assertEq(person.balance, before);
        vm.assertEq(address(coordinator).balance, 0);
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        assertStatus(requestId, IInferenceCoordinator.Status.Failed);
        vm.assertEq(uint256(known.failure), uint256(IInferenceCoordinator.FailureReason.ImageUnreadable));
        vm.assertEq(known.requester, person);
        vm.assertEq(known.payment, PRICE + 10_000 gwei);
        vm.assertEq(known.callbackGas, 0);
        vm.assertEq(known.deadline, NOW + 1 hours);
        vm.assertEq(known.modelId, modelId);
    }

    function test_GivenTheRequesterRefusesTheMoney_ItCreditsIt() external {
        EtherRefuser refuser = new EtherRefuser(coordinator);
        bytes32 requestId = askFrom(refuser, 0);
        reportOne(failure(requestId));
        vm.assertEq(balanceOf(address(refuser)), PRICE);
        assertStatus(requestId, IInferenceCoordinator.Status.Failed);
    }

    function test_GivenTheRequesterBurnsItsGas_ItCreditsTheMoney() external {
        GasBurner burner = new GasBurner(coordinator);
        bytes32 requestId = askFrom(burner, 0);
        vm.prank(operator);
        coordinator.report{gas: 400_000}(one(failure(requestId)));
        vm.assertEq(balanceOf(address(burner)), PRICE);
    }

    function test_GivenTooLittleGasForTheRefund_ItReverts() external {
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        bytes32 requestId = askFrom(consumer, 0);
        vm.expectRevert();
        vm.prank(operator);
        coordinator.report{gas: 100_000}(one(failure(requestId)));
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
        vm.prank(operator);
        coordinator.report{gas: 200_000}(one(failure(requestId)));
        vm.assertEq(address(consumer).balance, PRICE);
    }

    function test_GivenAFailureAfterTheDeadline_ItIsAccepted() external {
        bytes32 requestId = ask();
        vm.warp(NOW + 2 hours);
        reportOne(failure(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.Failed);
    }

    function test_GivenAnUnknownRequest_ItSkips() external {
        expectSkip(success(keccak256("never")), IInferenceCoordinator.Status.Unknown);
        expectSkip(failure(keccak256("never")), IInferenceCoordinator.Status.Unknown);
    }

    function test_GivenASettledRequest_ItSkips() external {
        bytes32 fulfilled = ask();
        bytes32 failed = ask();
        bytes32 refunded = ask();
        reportOne(success(fulfilled));
        reportOne(failure(failed));
        vm.warp(NOW + 2 hours);
        coordinator.refund(refunded);
        expectSkip(success(fulfilled), IInferenceCoordinator.Status.Fulfilled);
        expectSkip(failure(fulfilled), IInferenceCoordinator.Status.Fulfilled);
        expectSkip(success(failed), IInferenceCoordinator.Status.Failed);
        expectSkip(failure(failed), IInferenceCoordinator.Status.Failed);
        expectSkip(success(refunded), IInferenceCoordinator.Status.Refunded);
        expectSkip(failure(refunded), IInferenceCoordinator.Status.Refunded);
    }

    function test_GivenOneIdTwice_ItSkipsTheSecond() external {
        bytes32 requestId = ask();
        ask();
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](2);
        items[0] = success(requestId);
        items[1] = failure(requestId);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.FulfilmentSkipped(requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.prank(operator);
        coordinator.report(items);
        vm.assertEq(balanceOf(operator) + coordinator.earningsOf(modelId), PRICE);
        vm.assertEq(address(coordinator).balance, 2 * PRICE);
    }

    function test_GivenAnAnswerAfterTheDeadline_ItSkips() external {
        bytes32 requestId = ask();
        vm.warp(NOW + 1 hours + 1);
        expectSkip(success(requestId), IInferenceCoordinator.Status.Pending);
        coordinator.refund(requestId);
    }

    function test_GivenABadResultCid_ItSkips() external {
        IInferenceCoordinator.Fulfilment memory item = success(ask());
        item.resultCid = hex"0155";
        expectSkip(item, IInferenceCoordinator.Status.Pending);
        item.resultCid = "";
        expectSkip(item, IInferenceCoordinator.Status.Pending);
    }

    function test_GivenATooLongAnswer_ItSkips() external {
        IInferenceCoordinator.Fulfilment memory item = success(ask());
        item.answer = new bytes(1025);
        expectSkip(item, IInferenceCoordinator.Status.Pending);
        item.answer = new bytes(1024);
        reportOne(item);
        assertStatus(item.requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_GivenBadItems_ItSettlesTheirNeighbours() external {
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](7);
        items[0] = success(keccak256("never"));
        items[1] = success(ask());
        items[2] = success(ask());
        items[2].resultCid = "no cid";
        items[3] = success(ask());
        items[4] = success(ask());
        items[4].answer = new bytes(2000);
        items[5] = failure(ask());
        items[6] = success(ask());
        vm.prank(operator);
        coordinator.report(items);
        assertStatus(items[1].requestId, IInferenceCoordinator.Status.Fulfilled);
        assertStatus(items[2].requestId, IInferenceCoordinator.Status.Pending);
        assertStatus(items[3].requestId, IInferenceCoordinator.Status.Fulfilled);
        assertStatus(items[4].requestId, IInferenceCoordinator.Status.Pending);
        assertStatus(items[5].requestId, IInferenceCoordinator.Status.Failed);
        assertStatus(items[6].requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.assertEq(balanceOf(operator) + coordinator.earningsOf(modelId), 3 * PRICE);
        vm.assertEq(address(coordinator).balance, 5 * PRICE);
    }

    function test_GivenSeveralModels_ItCreditsEachPublisher() external {
        address other = makeAccount("other payout");
        vm.prank(owner);
        uint256 otherModel = coordinator.publishModel(cid("other manifest"), 3 * PRICE, ETHER, other);
        uint256[5] memory order = [modelId, otherModel, otherModel, modelId, otherModel];
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](5);
        for (uint256 i = 0; i < items.length; ++i) {
            uint256 payment = coordinator.quote(order[i], 0);
            vm.prank(person);
            items[i] = success(coordinator.request{value: payment}(order[i], cid("picture"), 0, NOW + 1 hours));
        }
        vm.prank(operator);
        coordinator.report(items);
        vm.assertEq(coordinator.earningsOf(modelId), 2 * PRICE * 3 / 10);
        vm.assertEq(coordinator.earningsOf(otherModel), 9 * PRICE * 3 / 10);
        vm.assertEq(balanceOf(operator), 11 * PRICE * 7 / 10);
    }

    function test_GivenPaused_ItSettles() external {
        bytes32 fulfilled = ask();
        bytes32 failed = ask();
        vm.prank(owner);
        coordinator.pause();
        reportOne(success(fulfilled));
        reportOne(failure(failed));
        assertStatus(fulfilled, IInferenceCoordinator.Status.Fulfilled);
        assertStatus(failed, IInferenceCoordinator.Status.Failed);
    }

    function testFuzz_GivenAnotherShare_ItSplitsByItToTheLastWei(uint256 share, uint64 priceGwei) external {
        share = bound(share, 1000, 9000);
        vm.prank(owner);
        coordinator.setPublisherShare(share);
        uint256 payment = bound(priceGwei, 0, 1000 gwei) * 1 gwei;
        modelId = publish(payment, ETHER);
        vm.deal(person, payment);
        reportOne(success(ask()));
        vm.assertEq(coordinator.earningsOf(modelId), payment * share / 10_000);
        vm.assertEq(balanceOf(operator), payment - payment * share / 10_000);
    }

    function test_GivenAFreeModel_ItSettles() external {
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, 0);
        bytes32 fulfilled = ask();
        bytes32 failed = ask();
        reportOne(success(fulfilled));
        reportOne(failure(failed));
        vm.assertEq(balanceOf(operator), 0);
        assertStatus(fulfilled, IInferenceCoordinator.Status.Fulfilled);
    }

    function expectSkip(IInferenceCoordinator.Fulfilment memory item, IInferenceCoordinator.Status status) private {
        uint256 balance = address(coordinator).balance;
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.FulfilmentSkipped(item.requestId, status);
        reportOne(item);
        assertStatus(item.requestId, status);
        vm.assertEq(address(coordinator).balance, balance);
    }
}
