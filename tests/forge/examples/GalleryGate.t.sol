// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceConsumer} from "../../../contracts/InferenceConsumer.sol";
import {GalleryGate} from "../../../contracts/examples/GalleryGate.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {ExampleTest} from "./ExampleTest.sol";

contract GalleryGateTest is ExampleTest {
    uint16 private constant CAT = 17;
    uint16 private constant DOG = 18;

    GalleryGate private gate;
    uint256 private price;

    function setUp() public override {
        super.setUp();
        gate = new GalleryGate(coordinator, modelId, CAT, 9000, 2);
        price = gate.price();
    }

    function test_Constructor_GivenBoundsThatNoPictureCanMeet_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(GalleryGate.CountOutOfRange.selector, 0, 31));
        new GalleryGate(coordinator, modelId, CAT, 9000, 0);
        vm.expectRevert(abi.encodeWithSelector(GalleryGate.CountOutOfRange.selector, 32, 31));
        new GalleryGate(coordinator, modelId, CAT, 9000, 32);
        vm.expectRevert(abi.encodeWithSelector(GalleryGate.ScoreOutOfRange.selector, 10_001, 10_000));
        new GalleryGate(coordinator, modelId, CAT, 10_001, 2);
        new GalleryGate(coordinator, modelId, CAT, 10_000, 31);
    }

    function test_Submit_GivenEnoughInstances_ThePictureIsLetIn() external {
        bytes32 requestId = submit("two cats");
        vm.assertFalse(gate.isInside(cid("two cats")));
        vm.expectEmit(address(gate));
        emit GalleryGate.PictureAdmitted(requestId, 2);
        reportOne(answered(requestId, pets(CAT, 9500, DOG, 9400, CAT, 9000)));
        vm.assertTrue(gate.isInside(cid("two cats")));
        vm.assertEq(gate.size(), 1);
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_Submit_GivenTooFewOfTheClass_ThePictureIsTurnedAway() external {
        bytes32 requestId = submit("a cat and dogs");
        vm.expectEmit(address(gate));
        emit GalleryGate.PictureTurnedAway(requestId, 1);
        reportOne(answered(requestId, pets(CAT, 9500, DOG, 9400, DOG, 9300)));
        vm.assertFalse(gate.isInside(cid("a cat and dogs")));
        vm.assertEq(gate.size(), 0);
    }

    function test_Submit_GivenTooLowAScore_ThePictureIsTurnedAway() external {
        bytes32 requestId = submit("blurred cats");
        vm.expectEmit(address(gate));
        emit GalleryGate.PictureTurnedAway(requestId, 1);
        reportOne(answered(requestId, pets(CAT, 9500, CAT, 8999, CAT, 8999)));
        vm.assertFalse(gate.isInside(cid("blurred cats")));
    }

    function test_Submit_GivenAPictureThatWasTurnedAway_ItCanBeSubmittedAgain() external {
        reportOne(answered(submit("cats"), pets(CAT, 9500, CAT, 8999, CAT, 8999)));
        reportOne(answered(submit("cats"), pets(CAT, 9500, CAT, 9100, CAT, 8999)));
        vm.assertTrue(gate.isInside(cid("cats")));
    }

    function test_Submit_GivenAPictureThatIsInside_ItReverts() external {
        reportOne(answered(submit("cats"), pets(CAT, 9500, CAT, 9100, CAT, 8999)));
        vm.expectRevert(abi.encodeWithSelector(GalleryGate.AlreadyAdmitted.selector, cid("cats")));
        vm.prank(person);
        gate.submit{value: price}(cid("cats"), NOW + 1 hours);
    }

    function test_Submit_GivenTheSamePictureTwiceAtOnce_ItIsCountedOnce() external {
        bytes32 first = submit("cats");
        bytes32 second = submit("cats");
        bytes memory answer = pets(CAT, 9500, CAT, 9100, CAT, 8999);
        vm.prank(operator);
        coordinator.report(two(answered(first, answer), answered(second, answer)));
        vm.assertEq(gate.size(), 1);
    }

    function test_Submit_GivenTooMuchOrTooLittle_OnlyThePriceIsTaken() external {
        uint256 before = person.balance;
        vm.prank(person);
        gate.submit{value: 1 ether}(cid("cats"), NOW + 1 hours);
        vm.assertEq(before - person.balance, price);
        vm.deal(address(gate), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, price - 1, price));
        vm.prank(person);
        gate.submit{value: price - 1}(cid("cats"), NOW + 1 hours);
    }

    function test_Answer_GivenAnotherKind_TheCallbackFailsAndTheGateStaysShut() external {
        bytes32 requestId = submit("cats");
        reportOne(answered(requestId, answerOf(CAT, 9900)));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
        vm.assertEq(gate.size(), 0);
        vm.assertTrue(gate.isOpen(requestId));
    }

    function test_Answer_TheLongestFitsItsGas() external {
        bytes memory answer = abi.encodePacked(hex"01021f00001f028001e0", bytes22(0));
        for (uint256 i = 0; i < 31; ++i) {
            answer = bytes.concat(answer, instance(CAT, 9900));
        }
        bytes32 requestId = submit("many cats");
        assertFits(gate, gate.CALLBACK_GAS(), requestId, answer);
        vm.assertTrue(gate.isInside(cid("many cats")));
    }

    function test_Reclaim_GivenAFailureOrNoAnswer_TheSubmitterIsPaid() external {
        uint256 before = person.balance;
        bytes32 failed = submit("cats");
        bytes32 late = submit("dogs");
        reportOne(failure(failed));
        gate.reclaim(failed);
        vm.warp(NOW + 1 hours + 1);
        vm.prank(stranger);
        gate.reclaim(late);
        vm.assertEq(person.balance, before);
        vm.expectRevert(abi.encodeWithSelector(InferenceConsumer.UnknownRequest.selector, failed));
        gate.reclaim(failed);
        vm.assertFalse(gate.isInside(cid("cats")));
    }

    function submit(string memory picture) private returns (bytes32) {
        vm.prank(person);
        return gate.submit{value: price}(cid(picture), NOW + 1 hours);
    }

    /// @dev An answer with three instances, in a picture of 640 by 480.
    function pets(uint16 class1, uint16 score1, uint16 class2, uint16 score2, uint16 class3, uint16 score3)
        private
        pure
        returns (bytes memory)
    {
        bytes memory head = abi.encodePacked(hex"010203000003028001e0", bytes22(0));
        return bytes.concat(head, instance(class1, score1), instance(class2, score2), instance(class3, score3));
    }

    function instance(uint16 classIndex, uint16 scoreBps) private pure returns (bytes memory) {
        return abi.encodePacked(classIndex, scoreBps, hex"000a0014006e00dc", uint32(12_345));
    }
}
