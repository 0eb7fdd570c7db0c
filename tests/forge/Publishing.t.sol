// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EtherRefuser} from "../../contracts/mocks/EtherRefuser.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

contract PublishingTest is CoordinatorTest {
    uint256 private constant FEE = 0.01 ether;

    function testFuzz_Fee_ItGoesToTheOwnersBalance_AndTheExcessBack(uint256 fee, uint96 excess) external {
        fee = bound(fee, 0, 1 ether);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.PublishingFeeSet(fee);
        vm.prank(owner);
        coordinator.setPublishingFee(fee);
        vm.assertEq(coordinator.publishingFee(), fee);
        vm.deal(stranger, fee + excess);
        publishFrom(stranger, fee + excess);
        vm.assertEq(stranger.balance, excess);
        vm.assertEq(balanceOf(owner), fee);
        vm.assertEq(address(coordinator).balance, fee);
        vm.assertEq(coordinator.modelCount(), 2);
    }

    function test_Fee_GivenLess_ItReverts() external {
        vm.assertEq(coordinator.publishingFee(), FEE);
        vm.deal(stranger, FEE);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, FEE - 1, FEE));
        publishFrom(stranger, FEE - 1);
        publishFrom(stranger, FEE);
    }

    function test_Fee_GivenTheOwner_ItIsFree() external {
        vm.deal(owner, 1 ether);
        publishFrom(owner, 0);
        publishFrom(owner, 1 ether);
        vm.assertEq(owner.balance, 1 ether);
        vm.assertEq(balanceOf(owner), 0);
        vm.assertEq(coordinator.modelOf(3).publisher, owner);
    }

    function test_Fee_GivenTheExcessIsRefused_ItGoesToTheBalance() external {
        address refuser = address(new EtherRefuser(coordinator));
        vm.deal(refuser, 1 ether);
        publishFrom(refuser, 1 ether);
        vm.assertEq(balanceOf(refuser), 1 ether - FEE);
    }

    function test_Fee_GivenANewOwner_ItGoesThere() external {
        vm.prank(owner);
        coordinator.transferOwnership(payout);
        vm.prank(payout);
        coordinator.acceptOwnership();
        vm.deal(owner, FEE);
        publishFrom(owner, FEE);
        vm.assertEq(balanceOf(payout), FEE);
        vm.assertEq(balanceOf(owner), 0);
    }

    function test_GivenPaused_ItIsPublished() external {
        vm.startPrank(owner);
        coordinator.pause();
        vm.assertEq(coordinator.publishModel(cid("m"), PRICE, ETHER, payout), 2);
        vm.stopPrank();
    }

    function testFuzz_Share_ItStaysWhatItWasAtPublication(uint256 first, uint256 second) external {
        first = bound(first, 1000, 9000);
        second = bound(second, 1000, 9000);
        vm.prank(owner);
        coordinator.setPublisherShare(first);
        modelId = publish(PRICE, ETHER);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.PublisherShareSet(second);
        vm.prank(owner);
        coordinator.setPublisherShare(second);
        vm.assertEq(coordinator.publisherShare(), second);
        vm.assertEq(coordinator.modelOf(modelId).publisherShare, first);
        vm.assertEq(coordinator.modelOf(1).publisherShare, 3000);
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, 3 * PRICE);
        reportOne(success(ask()));
        vm.assertEq(coordinator.earningsOf(modelId), 3 * PRICE * first / 10_000);
        modelId = publish(PRICE, ETHER);
        vm.assertEq(coordinator.modelOf(modelId).publisherShare, second);
    }

    function test_Earnings_TheyAddUpAndArePaidOutWhole_AlsoWhilePaused() external {
        reportOne(success(ask()));
        reportOne(success(ask()));
        uint256 earned = 2 * PRICE * 3 / 10;
        vm.assertEq(coordinator.earningsOf(modelId), earned);
        vm.assertEq(balanceOf(payout), 0);
        vm.prank(owner);
        coordinator.pause();
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.EarningsWithdrawn(modelId, stranger, earned);
        vm.prank(payout);
        vm.assertEq(coordinator.withdrawEarnings(modelId, stranger), earned);
        vm.assertEq(stranger.balance, earned);
        vm.assertEq(coordinator.earningsOf(modelId), 0);
        vm.assertEq(address(coordinator).balance, balanceOf(operator));
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NothingEarned.selector, modelId));
        vm.prank(payout);
        coordinator.withdrawEarnings(modelId, stranger);

        vm.prank(owner);
        coordinator.unpause();
        reportOne(success(ask()));
        vm.assertEq(coordinator.earningsOf(modelId), PRICE * 3 / 10);
        vm.assertEq(coordinator.modelOf(modelId).price, PRICE);
        vm.assertTrue(coordinator.modelOf(modelId).active);
    }

    function test_Earnings_GivenAnotherCallerThanThePayout_ItReverts() external {
        reportOne(success(ask()));
        address[4] memory others = [publisher, operator, owner, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotModelPayout.selector, others[i], payout));
            vm.prank(others[i]);
            coordinator.withdrawEarnings(modelId, others[i]);
        }
    }

    function test_Earnings_GivenAnUnknownModelOrNobody_ItReverts() external {
        reportOne(success(ask()));
        vm.startPrank(payout);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.UnknownModel.selector, 2));
        coordinator.withdrawEarnings(2, payout);
        vm.expectRevert(IInferenceCoordinator.ZeroAddress.selector);
        coordinator.withdrawEarnings(modelId, address(0));
        vm.stopPrank();
        vm.assertEq(coordinator.earningsOf(2), 0);
    }

    function test_Earnings_GivenTheReceiverRefuses_TheyStay() external {
        reportOne(success(ask()));
        EtherRefuser refuser = new EtherRefuser(coordinator);
        uint256 earned = PRICE * 3 / 10;
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.TransferFailed.selector, address(refuser), earned));
        vm.prank(payout);
        coordinator.withdrawEarnings(modelId, address(refuser));
        vm.assertEq(coordinator.earningsOf(modelId), earned);
    }

    function test_Earnings_GivenReentry_TheyArePaidOnce() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        vm.prank(owner);
        uint256 itsModel = coordinator.publishModel(cid("m"), PRICE, ETHER, address(consumer));
        (uint256 other, uint256 earned) = (modelId, PRICE * 3 / 10);
        reportOne(success(ask()));
        modelId = itsModel;
        reportOne(success(ask()));
        consumer.prepare(abi.encodeCall(IInferenceCoordinator.withdrawEarnings, (itsModel, address(consumer))), 0);
        vm.prank(address(consumer));
        coordinator.withdrawEarnings(itsModel, address(consumer));
        vm.assertEq(consumer.tries(), 1);
        vm.assertEq(consumer.breaches(), 0);
        vm.assertEq(address(consumer).balance, earned);
        vm.assertEq(coordinator.earningsOf(other), earned);
    }

    function test_Earnings_GivenTwoModelsOfOnePayout_EachIsTakenAlone() external {
        uint256 other = publish(2 * PRICE, ETHER);
        reportOne(success(ask()));
        (modelId, other) = (other, modelId);
        reportOne(success(ask()));
        vm.prank(payout);
        coordinator.withdrawEarnings(modelId, payout);
        vm.assertEq(payout.balance, 2 * PRICE * 3 / 10);
        vm.assertEq(coordinator.earningsOf(other), PRICE * 3 / 10);
    }

    function publishFrom(address account, uint256 value) private {
        vm.prank(account);
        coordinator.publishModel{value: value}(cid("m"), PRICE, ETHER, payout);
    }

    function test_TheHighestFeeAndTheWidestSharesAreAccepted() external {
        vm.startPrank(owner);
        coordinator.setPublishingFee(1 ether);
        vm.assertEq(coordinator.publishingFee(), 1 ether);
        coordinator.setPublisherShare(9000);
        vm.assertEq(coordinator.publisherShare(), 9000);
        coordinator.setPublisherShare(1000);
        vm.assertEq(coordinator.publisherShare(), 1000);
        vm.stopPrank();
    }

    function test_OwnershipCannotBeRenounced() external {
        vm.prank(owner);
        vm.expectRevert(IInferenceCoordinator.OwnershipNotRenounceable.selector);
        coordinator.renounceOwnership();
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, stranger));
        vm.prank(stranger);
        coordinator.renounceOwnership();
        vm.assertEq(coordinator.owner(), owner);
    }
}
