// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceConsumer} from "../../../contracts/InferenceConsumer.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {ExampleTest} from "./ExampleTest.sol";

/// @notice Shows every function of the base, and counts what its hooks were called with.
contract PlainConsumer is InferenceConsumer {
    uint256 private constant CALLBACK_GAS = 60_000;

    /// @dev Whether an empty answer is taken.
    bool public lenient;
    mapping(bytes32 requestId => uint256 times) public answers;
    mapping(bytes32 requestId => uint256 times) public returns_;

    constructor(IInferenceCoordinator coordinator_) InferenceConsumer(coordinator_) {}

    function setLenient(bool lenient_) external {
        lenient = lenient_;
    }

    function askForSender(uint256 modelId) external payable returns (bytes32 requestId) {
        uint256 rest;
        (requestId, rest) = _requestForSender(modelId, picture(), CALLBACK_GAS, block.timestamp + 1 hours);
        _pay(msg.sender, rest);
    }

    function ask(uint256 modelId, uint256 maxPayment) external payable returns (bytes32 requestId, uint256 payment) {
        return _request(modelId, picture(), CALLBACK_GAS, block.timestamp + 1 hours, maxPayment);
    }

    function askMany(uint256 modelId, uint256 count, uint256 maxPayment)
        external
        payable
        returns (bytes32[] memory requestIds, uint256 payment)
    {
        bytes[] memory pictures = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            pictures[i] = picture();
        }
        return _requestMany(modelId, pictures, CALLBACK_GAS, block.timestamp + 1 hours, maxPayment);
    }

    function askFromBalance(uint256 modelId, uint256 maxPayment) external payable returns (bytes32 requestId) {
        coordinator.deposit{value: msg.value}();
        return _requestFromBalance(modelId, picture(), CALLBACK_GAS, block.timestamp + 1 hours, maxPayment);
    }

    function cancel(IInferenceCoordinator.RequestTerms calldata terms) external {
        coordinator.cancel(terms);
    }

    function picture() public pure returns (bytes memory) {
        return abi.encodePacked(hex"01551220", keccak256("picture"));
    }

    function _onAnswer(bytes32 requestId, bytes calldata, bytes calldata answer) internal override {
        require(lenient || answer.length != 0);
        ++answers[requestId];
    }

    function _onReturn(bytes32 requestId) internal override {
        ++returns_[requestId];
    }
}

contract InferenceConsumerTest is ExampleTest {
    PlainConsumer private consumer;
    uint256 private price;

    function setUp() public override {
        super.setUp();
        consumer = new PlainConsumer(coordinator);
        price = coordinator.quote(modelId, 60_000);
    }

    // ---------------------------------------------------------------------------------------------- asking

    function test_RequestForSender_ItSpendsNothingButTheValueOfTheCall() external {
        vm.deal(address(consumer), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, price - 1, price));
        vm.prank(person);
        consumer.askForSender{value: price - 1}(modelId);

        uint256 before = person.balance;
        vm.prank(person);
        consumer.askForSender{value: 1 ether}(modelId);
        vm.assertEq(before - person.balance, price);
        vm.assertEq(address(consumer).balance, 1 ether);
    }

    function test_Request_ItPaysFromWhatTheContractHolds() external {
        vm.deal(address(consumer), price);
        (bytes32 requestId, uint256 payment) = consumer.ask(modelId, price);
        vm.assertEq(payment, price);
        vm.assertEq(address(consumer).balance, 0);
        vm.assertTrue(consumer.isOpen(requestId));
    }

    function test_Request_GivenTooLittle_ItReverts() external {
        vm.deal(address(consumer), price - 1);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.BalanceTooLow.selector, price - 1, price));
        consumer.ask(modelId, price);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.BalanceTooLow.selector, price - 1, 2 * price));
        consumer.askMany(modelId, 2, 2 * price);
    }

    function test_Request_GivenARaisedPrice_ItReverts() external {
        vm.deal(address(consumer), 100 ether);
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, PRICE + 1 gwei);
        uint256 raised = price + 1 gwei;
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, raised, price));
        consumer.ask(modelId, price);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, 2 * raised, 2 * price)
        );
        consumer.askMany(modelId, 2, 2 * price);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, raised, price));
        consumer.askFromBalance{value: 1 ether}(modelId, price);
    }

    function test_RequestMany_EachIsOpenAndAnsweredOnce() external {
        vm.deal(address(consumer), 3 * price);
        (bytes32[] memory requestIds, uint256 payment) = consumer.askMany(modelId, 3, 3 * price);
        vm.assertEq(payment, 3 * price);
        vm.assertEq(requestIds.length, 3);
        for (uint256 i = 0; i < 3; ++i) {
            vm.assertTrue(consumer.isOpen(requestIds[i]));
            reportOne(success(requestIds[i]));
            vm.assertFalse(consumer.isOpen(requestIds[i]));
            vm.assertEq(consumer.answers(requestIds[i]), 1);
        }
    }

    function test_RequestFromBalance_ItIsAnsweredAsAnyOther() external {
        bytes32 requestId = consumer.askFromBalance{value: price}(modelId, price);
        vm.assertEq(balanceOf(address(consumer)), 0);
        reportOne(success(requestId));
        vm.assertEq(consumer.answers(requestId), 1);
    }

    // ---------------------------------------------------------------------------------------------- answers

    function test_Fulfil_GivenAnotherCaller_ItReverts() external {
        bytes32 requestId = askAsPerson();
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.NotCoordinator.selector, owner));
        vm.prank(owner);
        consumer.fulfillInference(requestId, cid("result"), answerOf(7, 9876));
    }

    function test_Fulfil_GivenAnUnknownAnsweredOrClosedRequest_ItReverts() external {
        bytes32 known = askAsPerson();
        reportOne(success(known));
        bytes32 closed = askAsPerson();
        reportOne(failure(closed));
        consumer.reclaim(closed);
        bytes32[3] memory requestIds = [keccak256("foreign"), known, closed];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, requestIds[i]));
            vm.prank(address(coordinator));
            consumer.fulfillInference(requestIds[i], cid("result"), answerOf(7, 9876));
        }
        vm.assertEq(consumer.answers(known), 1);
    }

    function test_Fulfil_GivenAFailedCallback_ItComesWithTheRetry() external {
        bytes32 requestId = askAsPerson();
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 60_000);
        reportOne(answered(requestId, ""));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
        vm.assertTrue(consumer.isOpen(requestId));
        vm.assertEq(consumer.answers(requestId), 0);

        consumer.setLenient(true);
        coordinator.retryCallback(address(consumer), terms, cid("result"), "");
        vm.assertEq(consumer.answers(requestId), 1);
        vm.assertFalse(consumer.isOpen(requestId));
    }

    // ---------------------------------------------------------------------------------------------- what comes back

    function test_Reclaim_GivenAFailure_ThePayerIsPaidOnce() external {
        uint256 before = person.balance;
        bytes32 requestId = askAsPerson();
        reportOne(failure(requestId));
        vm.expectEmit(address(consumer));
        emit InferenceConsumer.Reclaimed(requestId, person, price);
        vm.prank(stranger);
        consumer.reclaim(requestId);
        vm.assertEq(person.balance, before);
        vm.assertEq(consumer.returns_(requestId), 1);
        vm.assertFalse(consumer.isOpen(requestId));

        vm.deal(address(consumer), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, requestId));
        consumer.reclaim(requestId);
    }

    function test_Reclaim_GivenARefundSomebodyMade_ThePayerIsPaid() external {
        uint256 before = person.balance;
        bytes32 requestId = askAsPerson();
        vm.warp(NOW + 1 hours + 1);
        coordinator.refund(requestId);
        consumer.reclaim(requestId);
        vm.assertEq(person.balance, before);
    }

    function test_Reclaim_GivenNobodyRefunded_ItDoes() external {
        uint256 before = person.balance;
        bytes32 requestId = askAsPerson();
        vm.warp(NOW + 1 hours + 1);
        consumer.reclaim(requestId);
        vm.assertEq(person.balance, before);
        assertStatus(requestId, IInferenceCoordinator.Status.Refunded);
        vm.assertEq(consumer.returns_(requestId), 1);
    }

    function test_Reclaim_GivenACancelledRequest_ThePayerIsPaid() external {
        uint256 before = person.balance;
        bytes32 requestId = askAsPerson();
        consumer.cancel(termsOf(0, 60_000));
        consumer.reclaim(requestId);
        vm.assertEq(person.balance, before);
    }

    function test_Reclaim_GivenAnAnswerMayStillCome_ItReverts() external {
        bytes32 requestId = askAsPerson();
        vm.deal(address(consumer), 1 ether);
        vm.warp(NOW + 1 hours);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.NotRefundable.selector,
                requestId,
                IInferenceCoordinator.Status.Pending,
                NOW + 1 hours
            )
        );
        consumer.reclaim(requestId);
        vm.assertTrue(consumer.isOpen(requestId));
    }

    function test_Reclaim_GivenAFailedCallback_ItReverts() external {
        bytes32 requestId = askAsPerson();
        reportOne(answered(requestId, ""));
        vm.warp(NOW + 2 hours);
        vm.expectRevert(
            abi.encodeWithSelector(
                InferenceConsumer.NotReclaimable.selector, requestId, IInferenceCoordinator.Status.CallbackFailed
            )
        );
        consumer.reclaim(requestId);
    }

    function test_Reclaim_GivenTheContractPaid_TheMoneyStays() external {
        vm.deal(address(consumer), price);
        (bytes32 requestId,) = consumer.ask(modelId, price);
        reportOne(failure(requestId));
        consumer.reclaim(requestId);
        vm.assertEq(address(consumer).balance, price);
        vm.assertEq(consumer.returns_(requestId), 1);
    }

    function test_Reclaim_GivenItWasPaidFromTheBalance_NothingLeavesTheContract() external {
        bytes32 requestId = consumer.askFromBalance{value: price}(modelId, price);
        vm.deal(address(consumer), 1);
        reportOne(failure(requestId));
        vm.assertEq(balanceOf(address(consumer)), price);
        consumer.reclaim(requestId);
        vm.assertEq(address(consumer).balance, 1);
        vm.assertEq(balanceOf(address(consumer)), price);
        vm.assertEq(consumer.owed(address(consumer)), 0);
    }

    // ---------------------------------------------------------------------------------------------- hostile payers

    function test_Pay_GivenAPayerWhoRefuses_ItIsKeptForThem() external {
        puppet.setRefuses(true);
        bytes32 requestId = askAsPuppet(price + 3);
        vm.assertEq(consumer.owed(address(puppet)), 3);
        reportOne(failure(requestId));
        consumer.reclaim(requestId);
        vm.assertEq(consumer.owed(address(puppet)), price + 3);
        vm.assertEq(consumer.returns_(requestId), 1);

        // To itself it fails for as long as it refuses, to another account it goes through, once
        bytes memory toItself = abi.encodeCall(InferenceConsumer.withdraw, (address(puppet)));
        vm.expectRevert();
        puppet.act(address(consumer), 0, toItself);
        vm.assertEq(consumer.owed(address(puppet)), price + 3);
        puppet.act(address(consumer), 0, abi.encodeCall(InferenceConsumer.withdraw, (stranger)));
        vm.assertEq(stranger.balance, price + 3);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.NothingOwed.selector, address(puppet)));
        vm.prank(address(puppet));
        consumer.withdraw(stranger);
    }

    function test_Withdraw_GivenAReceiverWhoRefuses_ItReverts() external {
        puppet.setRefuses(true);
        askAsPuppet(price + 3);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.PaymentRefused.selector, address(puppet), 3));
        vm.prank(address(puppet));
        consumer.withdraw(address(puppet));
    }

    function test_Reclaim_GivenAPayerWhoComesBackIn_TheyArePaidOnce() external {
        vm.deal(address(consumer), 10 ether);
        bytes32 requestId = askAsPuppet(price);
        reportOne(failure(requestId));
        puppet.prepare(address(consumer), abi.encodeCall(InferenceConsumer.reclaim, (requestId)));
        uint256 before = address(puppet).balance;
        consumer.reclaim(requestId);
        vm.assertEq(puppet.tries(), 1);
        vm.assertEq(puppet.breaches(), 0);
        vm.assertEq(address(puppet).balance - before, price);
        vm.assertEq(address(consumer).balance, 10 ether);
    }

    function test_Reclaim_GivenACallbackIsStillToCome_ItReverts() external {
        // The puppet stands before the request in the same report, when both are settled and neither is called
        bytes32 first = askForPuppet();
        bytes32 second = askAsPerson();
        puppet.prepare(address(consumer), abi.encodeCall(InferenceConsumer.reclaim, (second)));
        vm.prank(operator);
        coordinator.report(two(success(first), success(second)));
        vm.assertEq(puppet.tries(), 1);
        vm.assertEq(puppet.breaches(), 0);
        vm.assertEq(consumer.answers(second), 1);
        vm.assertEq(consumer.returns_(second), 0);
        assertStatus(second, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_Reclaim_GivenTheMoneyIsStillToCome_NothingIsLost() external {
        // As above, when the second has failed and its payment is on its way
        bytes32 first = askForPuppet();
        bytes32 second = askAsPerson();
        puppet.prepare(address(consumer), abi.encodeCall(InferenceConsumer.reclaim, (second)));
        vm.prank(operator);
        coordinator.report(two(success(first), failure(second)));
        vm.assertEq(puppet.breaches(), 1);
        vm.assertEq(address(consumer).balance, price);
        vm.assertEq(consumer.owed(person), price);
        uint256 before = person.balance;
        vm.prank(person);
        consumer.withdraw(person);
        vm.assertEq(person.balance - before, price);
    }

    function askAsPerson() private returns (bytes32) {
        vm.prank(person);
        return consumer.askForSender{value: price}(modelId);
    }

    function askAsPuppet(uint256 value) private returns (bytes32) {
        bytes memory data = abi.encodeCall(PlainConsumer.askForSender, (modelId));
        return abi.decode(puppet.act(address(consumer), value, data), (bytes32));
    }
}
