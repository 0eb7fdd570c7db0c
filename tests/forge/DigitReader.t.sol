// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceConsumer} from "../../contracts/InferenceConsumer.sol";
import {DigitReader} from "../../contracts/examples/DigitReader.sol";
import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {ExampleTest} from "./examples/ExampleTest.sol";

contract DigitReaderTest is ExampleTest {
    DigitReader private reader;
    uint256 private price;

    function setUp() public override {
        super.setUp();
        reader = new DigitReader(coordinator, modelId);
        price = reader.price();
    }

    function test_Ask_GivenTooLittleEther_ItReverts() external {
        vm.deal(address(reader), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, price - 1, price));
        vm.prank(person);
        reader.ask{value: price - 1}(cid("seven"), NOW + 1 hours);
    }

    function test_Ask_GivenTooMuch_TheRestComesBack() external {
        uint256 before = person.balance;
        vm.prank(person);
        reader.ask{value: 1 ether}(cid("seven"), NOW + 1 hours);
        vm.assertEq(before - person.balance, price);
        vm.assertEq(address(coordinator).balance, price);
        vm.assertEq(address(reader).balance, 0);
    }

    function test_Ask_ItOpensARequest() external {
        bytes32 requestId = askReader();
        vm.assertTrue(reader.isOpen(requestId));
        vm.assertEq(coordinator.requestOf(requestId).requester, address(reader));
        vm.assertEq(coordinator.requestOf(requestId).callbackGas, reader.CALLBACK_GAS());
        (bool answered,,) = reader.readings(requestId);
        vm.assertFalse(answered);
        vm.expectRevert(DigitReader.NothingRead.selector);
        reader.latestDigit();
    }

    function test_Answer_ItHoldsTheReading() external {
        bytes32 requestId = askReader();
        vm.expectEmit(address(reader));
        emit DigitReader.DigitRead(requestId, 7, 9876);
        reportOne(success(requestId));
        (bool answered, uint8 digit, uint16 confidence) = reader.readings(requestId);
        vm.assertTrue(answered);
        vm.assertEq(digit, 7);
        vm.assertEq(confidence, 9876);
        vm.assertEq(reader.latestDigit(), 7);
        vm.assertEq(reader.resultCidOf(requestId), cid("result"));
        vm.assertFalse(reader.isOpen(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_Answer_GivenNoDigit_TheAnswerStands() external {
        bytes32 requestId = askReader();
        IInferenceCoordinator.Fulfilment memory item = success(requestId);
        item.answer = answerOf(10, 9876);
        reportOne(item);
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
        vm.assertTrue(reader.isOpen(requestId));
    }

    function test_Fulfil_GivenAnotherCaller_ItReverts() external {
        bytes32 requestId = askReader();
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.NotCoordinator.selector, operator));
        vm.prank(operator);
        reader.fulfillInference(requestId, cid("result"), answerOf(7, 9876));
    }

    function test_Fulfil_GivenAForeignRequest_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, keccak256("foreign")));
        vm.prank(address(coordinator));
        reader.fulfillInference(keccak256("foreign"), cid("result"), answerOf(7, 9876));
    }

    function test_Fulfil_GivenAnAnsweredRequest_ItReverts() external {
        bytes32 requestId = askReader();
        reportOne(success(requestId));
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, requestId));
        vm.prank(address(coordinator));
        reader.fulfillInference(requestId, cid("result"), answerOf(8, 9876));
    }

    function test_Answer_ItFitsItsGas() external {
        assertFits(reader, reader.CALLBACK_GAS(), askReader(), answerOf(7, 9876));
    }

    function test_Reclaim_GivenAnAnsweredOrForeignRequest_ItReverts() external {
        bytes32 known = askReader();
        reportOne(success(known));
        bytes32 foreign = ask();
        reportOne(failure(foreign));
        vm.deal(address(reader), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, known));
        reader.reclaim(known);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, foreign));
        reader.reclaim(foreign);
    }

    function test_Reclaim_GivenAFailure_TheAskerIsPaidOnce() external {
        uint256 before = person.balance;
        bytes32 requestId = askReader();
        reportOne(failure(requestId));
        vm.assertEq(address(reader).balance, price);
        vm.prank(stranger);
        reader.reclaim(requestId);
        vm.assertEq(person.balance, before);
        vm.deal(address(reader), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, requestId));
        reader.reclaim(requestId);
    }

    function test_Reclaim_GivenNoAnswer_TheAskerIsPaid() external {
        uint256 before = person.balance;
        bytes32 requestId = askReader();
        vm.warp(NOW + 2 hours);
        reader.reclaim(requestId);
        vm.assertEq(person.balance, before);
    }

    function askReader() private returns (bytes32) {
        vm.prank(person);
        return reader.ask{value: price}(cid("seven"), NOW + 1 hours);
    }
}
