// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EtherRefuser} from "../../contracts/mocks/EtherRefuser.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

contract RequestManyTest is CoordinatorTest {
    function testFuzz_ItMakesOneRequestForEachPicture(uint8 number, uint256 callbackGas, uint64 excess) external {
        uint256 count = bound(number, 1, 20);
        callbackGas = bound(callbackGas, 0, 2_550_000);
        ask();
        bytes[] memory images = pictures(count);
        uint256 payment = coordinator.quote(modelId, callbackGas);
        uint256 before = person.balance;
        vm.prank(person);
        bytes32[] memory ids =
            coordinator.requestMany{value: count * payment + excess}(modelId, images, callbackGas, NOW + 1 hours);

        vm.assertEq(ids.length, count);
        vm.assertEq(coordinator.nextNonce(), 1 + count);
        vm.assertEq(before - person.balance, count * payment);
        vm.assertEq(address(coordinator).balance, PRICE + count * payment);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, (callbackGas + 9999) / 10_000 * 10_000);
        for (uint256 i = 0; i < count; ++i) {
            (terms.nonce, terms.imageCid) = (1 + i, images[i]);
            vm.assertEq(ids[i], coordinator.requestIdOf(person, terms));
            vm.assertEq(coordinator.requestOf(ids[i]).payment, payment);
            assertStatus(ids[i], IInferenceCoordinator.Status.Pending);
        }
    }

    function test_ItEmitsEachInOrder() external {
        bytes[] memory images = pictures(3);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        for (uint256 i = 0; i < images.length; ++i) {
            (terms.nonce, terms.imageCid) = (i, images[i]);
            vm.expectEmit(address(coordinator));
            emit IInferenceCoordinator.InferenceRequested(
                coordinator.requestIdOf(person, terms), modelId, person, images[i], PRICE, 0, NOW + 1 hours, i
            );
        }
        send(images, 3 * PRICE);
    }

    function test_GivenTooLittleEther_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, 3 * PRICE - 1, 3 * PRICE));
        send(pictures(3), 3 * PRICE - 1);
    }

    function test_GivenNoPicture_ItReverts() external {
        vm.expectRevert(IInferenceCoordinator.NothingAsked.selector);
        send(pictures(0), 1 ether);
        vm.expectRevert(IInferenceCoordinator.NothingAsked.selector);
        sendFromBalance(pictures(0), 1 ether);
    }

    function testFuzz_GivenOneBadCid_NoneIsMade(uint8 place) external {
        bytes[] memory images = pictures(5);
        images[bound(place, 0, 4)] = "no";
        prepay(5 * PRICE);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.InvalidCid.selector, bytes("no")));
        send(images, 5 * PRICE);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.InvalidCid.selector, bytes("no")));
        sendFromBalance(images, 5 * PRICE);
        vm.assertEq(coordinator.nextNonce(), 0);
        vm.assertEq(balanceOf(person), 5 * PRICE);
    }

    function test_GivenPausedOrBadTerms_ItReverts() external {
        bytes[] memory images = pictures(2);
        vm.startPrank(person);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.UnknownModel.selector, 2));
        coordinator.requestMany{value: 1 ether}(2, images, 0, NOW + 1 hours);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.DeadlineOutOfRange.selector, NOW, NOW + 30 seconds, NOW + 7 days
            )
        );
        coordinator.requestMany{value: 1 ether}(modelId, images, 0, NOW);
        vm.stopPrank();
        vm.prank(owner);
        coordinator.pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        send(images, 1 ether);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        sendFromBalance(images, 1 ether);
    }

    function test_GivenTheCallerRefusesTheExcess_ItGoesToTheBalance() external {
        EtherRefuser refuser = new EtherRefuser(coordinator);
        vm.deal(address(refuser), 1 ether);
        vm.prank(address(refuser));
        coordinator.requestMany{value: 1 ether}(modelId, pictures(2), 0, NOW + 1 hours);
        vm.assertEq(balanceOf(address(refuser)), 1 ether - 2 * PRICE);
    }

    function test_GivenReentryWithTheExcess_NothingGoesThrough() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        vm.deal(address(consumer), 1 ether);
        consumer.prepare(
            abi.encodeCall(IInferenceCoordinator.requestMany, (modelId, pictures(1), 0, NOW + 1 hours)), PRICE
        );
        vm.prank(address(consumer));
        coordinator.requestMany{value: 0.5 ether}(modelId, pictures(2), 0, NOW + 1 hours);
        vm.assertEq(consumer.tries(), 1);
        vm.assertEq(consumer.breaches(), 0);
        vm.assertEq(coordinator.nextNonce(), 2);
    }

    function test_FromTheBalance_ItTakesThePriceOfAll() external {
        prepay(1 ether);
        bytes32[] memory ids = sendFromBalance(pictures(4), 4 * PRICE);
        vm.assertEq(balanceOf(person), 1 ether - 4 * PRICE);
        vm.assertEq(coordinator.nextNonce(), 4);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(3, 0);
        terms.imageCid = pictures(4)[3];
        vm.assertEq(ids[3], coordinator.requestIdOf(person, terms));
        vm.warp(NOW + 2 hours);
        coordinator.refund(ids[2]);
        vm.assertEq(balanceOf(person), 1 ether - 3 * PRICE);
    }

    function test_FromTheBalance_GivenAMaximumBelowThePriceOfAll_ItReverts() external {
        prepay(1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, 4 * PRICE, 4 * PRICE - 1)
        );
        sendFromBalance(pictures(4), 4 * PRICE - 1);
    }

    function test_FromTheBalance_GivenTooLowABalance_ItReverts() external {
        prepay(4 * PRICE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.BalanceTooLow.selector, ETHER, person, 4 * PRICE - 1, 4 * PRICE
            )
        );
        sendFromBalance(pictures(4), 4 * PRICE);
    }

    function test_EachIsSettledAlone() external {
        bytes32[] memory ids = send(pictures(3), 3 * PRICE);
        reportOne(success(ids[1]));
        reportOne(failure(ids[0]));
        assertStatus(ids[0], IInferenceCoordinator.Status.Failed);
        assertStatus(ids[1], IInferenceCoordinator.Status.Fulfilled);
        assertStatus(ids[2], IInferenceCoordinator.Status.Pending);
        vm.assertEq(address(coordinator).balance, 2 * PRICE);
    }

    function pictures(uint256 count) private pure returns (bytes[] memory images) {
        images = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            images[i] = cid(string(abi.encodePacked("picture ", i)));
        }
    }

    function prepay(uint256 amount) private {
        vm.prank(person);
        coordinator.deposit{value: amount}();
    }

    function send(bytes[] memory images, uint256 value) private returns (bytes32[] memory) {
        vm.prank(person);
        return coordinator.requestMany{value: value}(modelId, images, 0, NOW + 1 hours);
    }

    function sendFromBalance(bytes[] memory images, uint256 maxPayment) private returns (bytes32[] memory) {
        vm.prank(person);
        return coordinator.requestManyFromBalance(modelId, images, 0, NOW + 1 hours, maxPayment);
    }
}
