// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceConsumer} from "../../contracts/interfaces/IInferenceConsumer.sol";
import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "../../contracts/mocks/AskingMock.sol";
import {GasBurner} from "../../contracts/mocks/GasBurner.sol";
import {RecordingConsumer} from "../../contracts/mocks/RecordingConsumer.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {ReturnBomb} from "../../contracts/mocks/ReturnBomb.sol";
import {RevertingConsumer} from "../../contracts/mocks/RevertingConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";

/// @notice Looks at the coordinator from inside its callback.
contract WatchingConsumer is AskingMock {
    bool public sawFulfilled;
    bool public sawVerified;
    uint256 public sawCredit;
    address public watched;

    constructor(IInferenceCoordinator coordinator_, address watched_) AskingMock(coordinator_) {
        watched = watched_;
    }

    function fulfillInference(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) external {
        sawFulfilled = coordinator.requestOf(requestId).status == IInferenceCoordinator.Status.Fulfilled;
        sawVerified = coordinator.verifyResult(requestId, address(this), resultCid, answer);
        sawCredit = coordinator.creditOf(watched);
    }
}

contract CallbackTest is CoordinatorTest {
    uint256 private constant CALLBACK_GAS = 300_000;

    function test_ItIsCalledWithRequestResultAndAnswer() external {
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        bytes32 requestId = askFrom(consumer, CALLBACK_GAS);
        reportOne(success(requestId));
        vm.assertEq(consumer.calls(), 1);
        vm.assertEq(consumer.requestId(), requestId);
        vm.assertEq(consumer.resultCid(), cid("result"));
        vm.assertEq(consumer.answer(), answerOf(7, 9876));
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function testFuzz_ItGetsExactlyItsGas(uint256 callbackGas, uint256 reportGas) external {
        callbackGas = bound(callbackGas, 250_000, 2_550_000);
        reportGas = bound(reportGas, 300_000, 4_000_000);
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        bytes32 requestId = askFrom(consumer, callbackGas);
        uint256 rounded = (callbackGas + 9999) / 10_000 * 10_000;
        vm.prank(operator);
        try coordinator.report{gas: reportGas}(one(success(requestId))) {
            vm.assertEq(consumer.calls(), 1);
            // What the dispatcher and the decoding of the arguments use before the first line runs.
            vm.assertLe(rounded - consumer.gasAtEntry(), 2000);
        } catch {
            assertStatus(requestId, IInferenceCoordinator.Status.Pending);
            vm.assertLe(reportGas, rounded * 64 / 63 + 250_000);
        }
    }

    function test_ItSeesEverythingSettled() external {
        WatchingConsumer consumer = new WatchingConsumer(coordinator, operator);
        reportOne(success(askFrom(consumer, CALLBACK_GAS)));
        vm.assertTrue(consumer.sawFulfilled());
        vm.assertTrue(consumer.sawVerified());
        vm.assertEq(consumer.sawCredit(), coordinator.creditOf(operator));
    }

    function test_GivenNoCallbackWasAsked_ItIsNotCalled() external {
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        reportOne(success(askFrom(consumer, 0)));
        vm.assertEq(consumer.calls(), 0);
    }

    function test_GivenAPerson_ItIsFulfilled() external {
        bytes32 requestId = askWith(CALLBACK_GAS);
        vm.prank(operator);
        coordinator.report{gas: 250_000}(one(success(requestId)));
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_GivenARevert_ItIsRecordedAndThePaymentStands() external {
        expectCallbackFailure(new RevertingConsumer(coordinator), 100_000);
    }

    function test_GivenBurntGas_ItIsRecordedAndThePaymentStands() external {
        expectCallbackFailure(new GasBurner(coordinator), 100_000);
    }

    function test_GivenAReturnBomb_ItCostsNoMoreThanTheCallbackGas() external {
        ReturnBomb bomb = new ReturnBomb(coordinator);
        bytes32 requestId = askFrom(bomb, 1_000_000);
        vm.prank(operator);
        uint256 before = gasleft();
        coordinator.report(one(success(requestId)));
        vm.assertLe(before - gasleft(), 1_000_000 + 120_000);
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
    }

    function test_GivenReentry_ItGoesNowhere() external {
        bytes32 expired = ask();
        bytes32 open = ask();
        RevertingConsumer other = new RevertingConsumer(coordinator);
        bytes32 retriable = failCallback(other);
        other.setCalm(true);
        vm.warp(NOW + 90 minutes);

        checkReentry(abi.encodeCall(IInferenceCoordinator.refund, (expired)), 0);
        checkReentry(abi.encodeCall(IInferenceCoordinator.withdraw, (stranger)), 0);
        checkReentry(abi.encodeCall(IInferenceCoordinator.request, (modelId, cid("picture"), 0, NOW + 2 hours)), PRICE);
        checkReentry(abi.encodeCall(IInferenceCoordinator.report, (one(failure(open)))), 0);
        checkReentry(
            abi.encodeCall(
                IInferenceCoordinator.retryCallback, (retriable, address(other), cid("result"), answerOf(7, 9876))
            ),
            0
        );
    }

    function test_GivenHostileNeighbours_TheOthersAreCalledBack() external {
        RecordingConsumer good = new RecordingConsumer(coordinator);
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](5);
        items[0] = success(askFrom(new GasBurner(coordinator), 500_000));
        items[1] = success(askFrom(new ReturnBomb(coordinator), 500_000));
        items[2] = failure(askFrom(new GasBurner(coordinator), 500_000));
        items[3] = success(askFrom(new RevertingConsumer(coordinator), 500_000));
        items[4] = success(askFrom(good, 500_000));
        vm.prank(operator);
        coordinator.report(items);
        assertStatus(items[0].requestId, IInferenceCoordinator.Status.CallbackFailed);
        assertStatus(items[1].requestId, IInferenceCoordinator.Status.CallbackFailed);
        assertStatus(items[2].requestId, IInferenceCoordinator.Status.Failed);
        assertStatus(items[3].requestId, IInferenceCoordinator.Status.CallbackFailed);
        assertStatus(items[4].requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.assertEq(good.calls(), 1);
    }

    function test_GivenTooLittleGas_TheReportReverts() external {
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        bytes32 requestId = askFrom(consumer, 1_000_000);
        vm.prank(operator);
        (bool done, bytes memory reason) = address(coordinator).call{gas: 1_000_000}(
            abi.encodeCall(IInferenceCoordinator.report, (one(success(requestId))))
        );
        vm.assertFalse(done);
        vm.assertEq(bytes32(bytes4(reason)), bytes32(IInferenceCoordinator.InsufficientGas.selector));
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
    }

    function test_GivenNoFailedCallback_TheRetryReverts() external {
        bytes32 pending = ask();
        expectNotRetriable(pending, IInferenceCoordinator.Status.Pending);
        bytes32 fulfilled = ask();
        reportOne(success(fulfilled));
        expectNotRetriable(fulfilled, IInferenceCoordinator.Status.Fulfilled);
        expectNotRetriable(keccak256("never"), IInferenceCoordinator.Status.Unknown);
    }

    function test_GivenOtherArguments_TheRetryReverts() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        bytes32 requestId = failCallback(consumer);
        RecordingConsumer other = new RecordingConsumer(coordinator);
        bytes memory mismatch = abi.encodeWithSelector(IInferenceCoordinator.ResultMismatch.selector, requestId);
        vm.expectRevert(mismatch);
        coordinator.retryCallback(requestId, address(other), cid("result"), answerOf(7, 9876));
        vm.expectRevert(mismatch);
        coordinator.retryCallback(requestId, address(consumer), cid("other"), answerOf(7, 9876));
        vm.expectRevert(mismatch);
        coordinator.retryCallback(requestId, address(consumer), cid("result"), answerOf(8, 9876));
    }

    function test_GivenItFailsAgain_TheRetryRevertsAndStays() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        bytes32 requestId = failCallback(consumer);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.CallbackReverted.selector, requestId));
        coordinator.retryCallback(requestId, address(consumer), cid("result"), answerOf(7, 9876));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
    }

    function test_GivenTooLittleGas_TheRetryReverts() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        bytes32 requestId = failCallback(consumer);
        consumer.setCalm(true);
        (bool done, bytes memory reason) = address(coordinator).call{gas: 130_000}(
            abi.encodeCall(
                IInferenceCoordinator.retryCallback, (requestId, address(consumer), cid("result"), answerOf(7, 9876))
            )
        );
        vm.assertFalse(done);
        vm.assertEq(bytes32(bytes4(reason)), bytes32(IInferenceCoordinator.InsufficientGas.selector));
    }

    function test_GivenAllIsWell_TheRetryDeliversOnce() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        bytes32 requestId = failCallback(consumer);
        vm.assertTrue(coordinator.verifyResult(requestId, address(consumer), cid("result"), answerOf(7, 9876)));
        consumer.setCalm(true);
        vm.prank(owner);
        coordinator.pause();
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.CallbackRetried(requestId);
        vm.prank(stranger);
        coordinator.retryCallback(requestId, address(consumer), cid("result"), answerOf(7, 9876));
        vm.assertEq(consumer.calls(), 1);
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
        expectNotRetriable(requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.assertTrue(coordinator.verifyResult(requestId, address(consumer), cid("result"), answerOf(7, 9876)));
    }

    function test_GivenMoreGasThanPaidFor_TheRetryPassesItOn() external {
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        bytes32 requestId = askFrom(consumer, 10_000);
        reportOne(success(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
        coordinator.retryCallback{gas: 600_000}(requestId, address(consumer), cid("result"), answerOf(7, 9876));
        vm.assertGe(consumer.gasAtEntry(), 500_000);
    }

    /// @dev The call is tried inside a callback, where it must fail, and then outside, where it must go through.
    function checkReentry(bytes memory attack, uint256 value) private {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        vm.deal(address(consumer), 10 ether);
        vm.prank(owner);
        coordinator.setOperator(address(consumer), true);
        uint256 itsModel = coordinator.publishModel(cid("its own model"), PRICE, address(consumer));
        uint256 payment = coordinator.quote(itsModel, CALLBACK_GAS);
        vm.prank(person);
        bytes32 requestId = consumer.ask{value: payment}(itsModel, cid("picture"), CALLBACK_GAS, NOW + 2 hours);

        consumer.prepare(attack, value);
        reportOne(success(requestId));
        vm.assertEq(consumer.tries(), 1, "tries inside");
        vm.assertEq(consumer.breaches(), 0, "breaches inside");
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);

        (bool sent,) = address(consumer).call{value: 1}("");
        vm.assertTrue(sent);
        vm.assertEq(consumer.breaches(), 1, "the attack itself is sound");
    }

    function failCallback(RevertingConsumer consumer) private returns (bytes32 requestId) {
        requestId = askFrom(consumer, 100_000);
        reportOne(success(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
    }

    function expectCallbackFailure(AskingMock consumer, uint256 callbackGas) private {
        bytes32 requestId = askFrom(consumer, callbackGas);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.CallbackFailed(requestId);
        reportOne(success(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
        vm.assertEq(coordinator.requestOf(requestId).callbackGas, callbackGas);
        uint256 payment = coordinator.quote(modelId, callbackGas);
        vm.assertEq(coordinator.creditOf(payout) + coordinator.creditOf(operator), payment);
        vm.assertEq(address(coordinator).balance, payment);
    }

    function expectNotRetriable(bytes32 requestId, IInferenceCoordinator.Status status) private {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotRetriable.selector, requestId, status));
        coordinator.retryCallback(requestId, person, cid("result"), answerOf(7, 9876));
    }
}
