// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceConsumer} from "../../contracts/interfaces/IInferenceConsumer.sol";
import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "../../contracts/mocks/AskingMock.sol";
import {GasBurner} from "../../contracts/mocks/GasBurner.sol";
import {PlainToken} from "../../contracts/mocks/PlainToken.sol";
import {RecordingConsumer} from "../../contracts/mocks/RecordingConsumer.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {ReturnBomb} from "../../contracts/mocks/ReturnBomb.sol";
import {RevertingConsumer} from "../../contracts/mocks/RevertingConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";

/// @notice Looks at the coordinator from inside its callback.
contract WatchingConsumer is AskingMock {
    bool public sawFulfilled;
    bool public sawVerified;
    uint256 public sawBalance;
    address public watched;

    constructor(IInferenceCoordinator coordinator_, address watched_) AskingMock(coordinator_) {
        watched = watched_;
    }

    function fulfillInference(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) external {
        sawFulfilled = coordinator.requestOf(requestId).status == IInferenceCoordinator.Status.Fulfilled;
        sawVerified = coordinator.verifyResult(requestId, resultCid, answer);
        sawBalance = coordinator.balanceOf(address(0), watched);
    }
}

contract CallbackTest is CoordinatorTest {
    uint256 private constant CALLBACK_GAS = 300_000;

    PlainToken private token = new PlainToken(6);
    uint256 private ownModel;

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
        vm.assertEq(consumer.sawBalance(), balanceOf(operator));
    }

    function test_GivenNoCallbackWasAsked_ItIsNotCalled() external {
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        reportOne(success(askFrom(consumer, 0)));
        vm.assertEq(consumer.calls(), 0);
    }

    function test_GivenAPerson_ItIsFulfilled() external {
        bytes32 requestId = askWith(CALLBACK_GAS);
        reportOne(success(requestId));
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
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        arm(consumer);
        bytes32 expired = ask();
        vm.warp(block.timestamp + 2 hours);
        bytes32 open = ask();
        RevertingConsumer other = new RevertingConsumer(coordinator);
        (, IInferenceCoordinator.RequestTerms memory retriable) = failCallback(other);
        other.setCalm(true);
        IInferenceCoordinator.RequestTerms memory own = termsOf(coordinator.nextNonce(), 0);
        askFrom(consumer, 0);
        IInferenceCoordinator.Fulfilment[] memory items = one(failure(ask()));
        IInferenceCoordinator.Signature[] memory signatures =
            signaturesOf(only(operator), coordinator.reportDigest(abi.encode(items), operator));

        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.refund, (expired)), 0);
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.cancel, (own)), 0);
        checkReentry(
            consumer,
            abi.encodeCall(
                IInferenceCoordinator.retryCallback, (address(other), retriable, cid("result"), answerOf(7, 9876))
            ),
            0
        );
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.report, (one(failure(open)))), 0);
        checkReentry(
            consumer, abi.encodeCall(IInferenceCoordinator.reportSigned, (abi.encode(items), operator, signatures)), 0
        );
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.withdraw, (ETHER, stranger, 1)), 0);
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.withdrawEarnings, (ownModel, stranger)), 0);
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.deposit, ()), 1 ether);
        checkReentry(
            consumer,
            abi.encodeCall(IInferenceCoordinator.publishModel, (cid("manifest"), PRICE, ETHER, payout)),
            coordinator.publishingFee()
        );
    }

    function test_GivenReentry_ItAsksForNothing() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        arm(consumer);
        uint256 inToken = publish(5, address(token));
        bytes[] memory images = new bytes[](1);
        images[0] = cid("picture");
        uint256 deadline = block.timestamp + 1 hours;
        IInferenceCoordinator.Permit memory permit;

        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.depositToken, (address(token), 5)), 0);
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.depositWithPermit, (address(token), 5, permit)), 0);
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.request, (modelId, images[0], 0, deadline)), PRICE);
        checkReentry(consumer, abi.encodeCall(IInferenceCoordinator.requestMany, (modelId, images, 0, deadline)), PRICE);
        checkReentry(
            consumer,
            abi.encodeCall(IInferenceCoordinator.requestFromBalance, (modelId, images[0], 0, deadline, PRICE)),
            0
        );
        checkReentry(
            consumer,
            abi.encodeCall(IInferenceCoordinator.requestManyFromBalance, (modelId, images, 0, deadline, PRICE)),
            0
        );
        checkReentry(
            consumer, abi.encodeCall(IInferenceCoordinator.requestWithToken, (inToken, images[0], 0, deadline, 5)), 0
        );
        checkReentry(
            consumer,
            abi.encodeCall(IInferenceCoordinator.requestWithPermit, (inToken, images[0], 0, deadline, 5, permit)),
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
        expectNotRetriable(pending, termsOf(0, 0), IInferenceCoordinator.Status.Pending);
        bytes32 fulfilled = ask();
        reportOne(success(fulfilled));
        expectNotRetriable(fulfilled, termsOf(1, 0), IInferenceCoordinator.Status.Fulfilled);
        IInferenceCoordinator.RequestTerms memory never = termsOf(2, 0);
        expectNotRetriable(coordinator.requestIdOf(person, never), never, IInferenceCoordinator.Status.Unknown);
    }

    function test_GivenAnotherRequesterOrOtherTerms_TheRetryReverts() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        (, IInferenceCoordinator.RequestTerms memory terms) = failCallback(consumer);
        consumer.setCalm(true);
        expectUnknownRetry(address(new RecordingConsumer(coordinator)), terms);
        ++terms.nonce;
        expectUnknownRetry(address(consumer), terms);
        --terms.nonce;
        terms.callbackGas = 0;
        expectUnknownRetry(address(consumer), terms);
        terms.callbackGas = 100_000;
        ++terms.createdAt;
        expectUnknownRetry(address(consumer), terms);
        --terms.createdAt;
        coordinator.retryCallback(address(consumer), terms, cid("result"), answerOf(7, 9876));
    }

    function test_GivenAnotherResultOrAnswer_TheRetryReverts() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        (bytes32 requestId, IInferenceCoordinator.RequestTerms memory terms) = failCallback(consumer);
        bytes memory mismatch = abi.encodeWithSelector(IInferenceCoordinator.ResultMismatch.selector, requestId);
        vm.expectRevert(mismatch);
        coordinator.retryCallback(address(consumer), terms, cid("other"), answerOf(7, 9876));
        vm.expectRevert(mismatch);
        coordinator.retryCallback(address(consumer), terms, cid("result"), answerOf(8, 9876));
    }

    function test_GivenItFailsAgain_TheRetryRevertsAndStays() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        (bytes32 requestId, IInferenceCoordinator.RequestTerms memory terms) = failCallback(consumer);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.CallbackReverted.selector, requestId));
        coordinator.retryCallback(address(consumer), terms, cid("result"), answerOf(7, 9876));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
    }

    function test_GivenTooLittleGas_TheRetryReverts() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        (, IInferenceCoordinator.RequestTerms memory terms) = failCallback(consumer);
        consumer.setCalm(true);
        (bool done, bytes memory reason) = address(coordinator).call{gas: 130_000}(
            abi.encodeCall(
                IInferenceCoordinator.retryCallback, (address(consumer), terms, cid("result"), answerOf(7, 9876))
            )
        );
        vm.assertFalse(done);
        vm.assertEq(bytes32(bytes4(reason)), bytes32(IInferenceCoordinator.InsufficientGas.selector));
    }

    function test_GivenAllIsWell_TheRetryDeliversOnce() external {
        RevertingConsumer consumer = new RevertingConsumer(coordinator);
        (bytes32 requestId, IInferenceCoordinator.RequestTerms memory terms) = failCallback(consumer);
        vm.assertTrue(coordinator.verifyResult(requestId, cid("result"), answerOf(7, 9876)));
        consumer.setCalm(true);
        vm.prank(owner);
        coordinator.pause();
        vm.warp(NOW + 30 days);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.CallbackRetried(requestId);
        vm.prank(stranger);
        coordinator.retryCallback(address(consumer), terms, cid("result"), answerOf(7, 9876));
        vm.assertEq(consumer.calls(), 1);
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.NotRetriable.selector, requestId, IInferenceCoordinator.Status.Fulfilled
            )
        );
        coordinator.retryCallback(address(consumer), terms, cid("result"), answerOf(7, 9876));
        vm.assertTrue(coordinator.verifyResult(requestId, cid("result"), answerOf(7, 9876)));
    }

    function test_GivenMoreGasThanPaidFor_TheRetryPassesItOn() external {
        RecordingConsumer consumer = new RecordingConsumer(coordinator);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 10_000);
        bytes32 requestId = askFrom(consumer, 10_000);
        reportOne(success(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
        coordinator.retryCallback{gas: 600_000}(address(consumer), terms, cid("result"), answerOf(7, 9876));
        vm.assertGe(consumer.gasAtEntry(), 500_000);
    }

    /// @dev Makes a consumer all that a call on the coordinator may need: operator, payout of a model, and well off.
    function arm(ReentrantConsumer consumer) private {
        address account = address(consumer);
        vm.deal(account, 10 ether);
        vm.prank(account);
        coordinator.deposit{value: 2 ether}();
        token.mint(account, 1000);
        vm.prank(account);
        token.approve(address(coordinator), 1000);

        vm.startPrank(owner);
        ownModel = coordinator.publishModel(cid("its own model"), PRICE, ETHER, account);
        address[] memory operators = new address[](2);
        (operators[0], operators[1]) = (operator, account);
        operators = rising(operators);
        coordinator.proposeOperators(operators, 1);
        vm.warp(block.timestamp + 7 days + 1);
        coordinator.applyOperators(operators, 1);
        vm.stopPrank();
    }

    /// @dev The call is tried inside a callback, where it must fail, and then outside, where it must go through.
    function checkReentry(ReentrantConsumer consumer, bytes memory attack, uint256 value) private {
        uint256 tries = consumer.tries();
        uint256 breaches = consumer.breaches();
        uint256 payment = coordinator.quote(ownModel, CALLBACK_GAS);
        vm.prank(person);
        bytes32 requestId =
            consumer.ask{value: payment}(ownModel, cid("picture"), CALLBACK_GAS, block.timestamp + 1 hours);

        consumer.prepare(attack, value);
        reportOne(success(requestId));
        vm.assertEq(consumer.tries(), tries + 1, "tries inside");
        vm.assertEq(consumer.breaches(), breaches, "breaches inside");
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);

        uint256 snapshot = vm.snapshotState();
        vm.prank(address(consumer));
        (bool sound,) = address(coordinator).call{value: value}(attack);
        vm.assertTrue(sound, "the attack itself is sound");
        vm.revertToState(snapshot);
    }

    function failCallback(RevertingConsumer consumer)
        private
        returns (bytes32 requestId, IInferenceCoordinator.RequestTerms memory terms)
    {
        terms = termsOf(coordinator.nextNonce(), 100_000);
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
        vm.assertEq(coordinator.earningsOf(modelId) + balanceOf(operator), payment);
        vm.assertEq(address(coordinator).balance, payment);
    }

    function expectNotRetriable(
        bytes32 requestId,
        IInferenceCoordinator.RequestTerms memory terms,
        IInferenceCoordinator.Status status
    ) private {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotRetriable.selector, requestId, status));
        coordinator.retryCallback(person, terms, cid("result"), answerOf(7, 9876));
    }

    function expectUnknownRetry(address requester, IInferenceCoordinator.RequestTerms memory terms) private {
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.NotRetriable.selector,
                coordinator.requestIdOf(requester, terms),
                IInferenceCoordinator.Status.Unknown
            )
        );
        coordinator.retryCallback(requester, terms, cid("result"), answerOf(7, 9876));
    }
}
