// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

contract ModelsTest is CoordinatorTest {
    uint256 private constant FEE = 0.01 ether;

    function testFuzz_Publish_ItKeepsModelsWhole(bytes32 digest, uint64 priceGwei, address to, uint8 form) external {
        vm.assume(to != address(0));
        uint256 price = bound(priceGwei, 0, 1000 gwei) * 1 gwei;
        bytes[3] memory cids = [
            abi.encodePacked(hex"1220", digest),
            abi.encodePacked(hex"01551220", digest),
            abi.encodePacked(hex"01701220", digest)
        ];
        bytes memory manifest = cids[form % 3];
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.ModelPublished(2, to, ETHER, price, manifest);
        vm.deal(stranger, FEE);
        vm.prank(stranger);
        vm.assertEq(coordinator.publishModel{value: FEE}(manifest, price, ETHER, to), 2);
        vm.assertEq(coordinator.modelCount(), 2);
        IInferenceCoordinator.Model memory model = coordinator.modelOf(2);
        vm.assertEq(model.publisher, stranger);
        vm.assertEq(model.payout, to);
        vm.assertEq(model.token, ETHER);
        vm.assertEq(model.publisherShare, 3000);
        vm.assertTrue(model.active);
        vm.assertEq(model.price, price);
        vm.assertEq(model.manifestCid, manifest);
    }

    function test_Publish_GivenNoCid_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.InvalidCid.selector, bytes("no")));
        vm.prank(owner);
        coordinator.publishModel("no", PRICE, ETHER, payout);
    }

    function test_Publish_GivenABadPrice_ItReverts() external {
        uint256[3] memory bad = [uint256(1 gwei + 1), 1000 ether + 1 gwei, type(uint256).max];
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PriceNotRepresentable.selector, bad[i]));
            vm.prank(owner);
            coordinator.publishModel(cid("m"), bad[i], ETHER, payout);
            vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PriceNotRepresentable.selector, bad[i]));
            vm.prank(publisher);
            coordinator.setModelPrice(modelId, bad[i]);
        }
        vm.prank(owner);
        coordinator.publishModel(cid("m"), 1000 ether, ETHER, payout);
        vm.assertEq(coordinator.quote(2, 0), 1000 ether);
    }

    function test_Publish_GivenNoPayout_ItReverts() external {
        vm.expectRevert(IInferenceCoordinator.ZeroAddress.selector);
        vm.prank(owner);
        coordinator.publishModel(cid("m"), PRICE, ETHER, address(0));
    }

    function test_Publish_GivenAFullRegistry_ItReverts() external {
        bytes memory manifest = cid("m");
        vm.startPrank(owner);
        for (uint256 i = 1; i < 4095; ++i) {
            coordinator.publishModel(manifest, PRICE, ETHER, payout);
        }
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.RegistryFull.selector, 4095));
        coordinator.publishModel(manifest, PRICE, ETHER, payout);
        vm.stopPrank();

        vm.prank(person);
        bytes32 requestId = coordinator.request{value: PRICE}(4095, cid("picture"), 0, NOW + 1 hours);
        vm.assertEq(coordinator.requestOf(requestId).modelId, 4095);
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
    }

    function test_Change_GivenAnotherCaller_ItReverts() external {
        bytes memory refusal =
            abi.encodeWithSelector(IInferenceCoordinator.NotModelPublisher.selector, payout, publisher);
        vm.startPrank(payout);
        vm.expectRevert(refusal);
        coordinator.setModelPrice(modelId, PRICE);
        vm.expectRevert(refusal);
        coordinator.setModelActive(modelId, false);
        vm.stopPrank();
    }

    function test_Change_GivenAnUnknownModel_ItReverts() external {
        bytes memory unknown = abi.encodeWithSelector(IInferenceCoordinator.UnknownModel.selector, 9);
        vm.expectRevert(unknown);
        coordinator.setModelPrice(9, PRICE);
        vm.expectRevert(unknown);
        coordinator.setModelActive(9, true);
        vm.expectRevert(unknown);
        coordinator.modelOf(9);
        vm.expectRevert(unknown);
        coordinator.withdrawEarnings(9, stranger);
        vm.expectRevert(unknown);
        coordinator.quote(9, 0);
    }

    function test_Change_GivenThePublisher_ItChangesThatAlone() external {
        vm.startPrank(publisher);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.ModelRepriced(modelId, 7 gwei);
        coordinator.setModelPrice(modelId, 7 gwei);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.ModelActivitySet(modelId, false);
        coordinator.setModelActive(modelId, false);
        vm.stopPrank();
        IInferenceCoordinator.Model memory model = coordinator.modelOf(modelId);
        vm.assertEq(model.price, 7 gwei);
        vm.assertFalse(model.active);
        vm.assertEq(model.payout, payout);
        vm.assertEq(model.manifestCid, cid("manifest"));
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.ModelInactive.selector, modelId));
        coordinator.quote(modelId, 0);
        vm.prank(publisher);
        coordinator.setModelActive(modelId, true);
        vm.assertEq(coordinator.quote(modelId, 0), 7 gwei);
    }

    function test_Change_GivenAPausedModel_ItsRequestsAreStillAnswered() external {
        bytes32 requestId = ask();
        vm.prank(publisher);
        coordinator.setModelActive(modelId, false);
        reportOne(success(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
    }

    function test_Settings_GivenAnotherCaller_TheyRevert() external {
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, operator);
        vm.startPrank(operator);
        vm.expectRevert(refusal);
        coordinator.setCallbackPrice(ETHER, 1);
        vm.expectRevert(refusal);
        coordinator.setPublishingFee(0);
        vm.expectRevert(refusal);
        coordinator.setPublisherShare(5000);
        vm.expectRevert(refusal);
        coordinator.pause();
        vm.expectRevert(refusal);
        coordinator.unpause();
        vm.stopPrank();
    }

    function test_Settings_GivenValuesOutOfRange_TheyRevert() external {
        vm.startPrank(owner);
        uint256[3] memory prices = [uint256(10_000_001), 2 ** 24, type(uint256).max];
        for (uint256 i = 0; i < prices.length; ++i) {
            bytes memory refusal =
                abi.encodeWithSelector(IInferenceCoordinator.PriceNotRepresentable.selector, prices[i]);
            vm.expectRevert(refusal);
            coordinator.setCallbackPrice(ETHER, prices[i]);
            vm.expectRevert(refusal);
            coordinator.setCallbackPrice(stranger, prices[i]);
        }
        uint256[2] memory fees = [uint256(1 ether + 1), type(uint256).max];
        for (uint256 i = 0; i < fees.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PriceNotRepresentable.selector, fees[i]));
            coordinator.setPublishingFee(fees[i]);
        }
        uint256[3] memory shares = [uint256(999), 9001, type(uint256).max];
        for (uint256 i = 0; i < shares.length; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(IInferenceCoordinator.ShareOutOfRange.selector, shares[i], 1000, 9000)
            );
            coordinator.setPublisherShare(shares[i]);
        }
        vm.stopPrank();
    }

    function testFuzz_Settings_TheCallbackPriceIsKeptExactly(uint256 price) external {
        price = bound(price, 0, 10_000_000);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.CallbackPriceSet(ETHER, price);
        vm.prank(owner);
        coordinator.setCallbackPrice(ETHER, price);
        vm.assertEq(coordinator.callbackPriceOf(ETHER), price);
        vm.assertEq(coordinator.quote(modelId, 2_550_000), PRICE + 255 * price * 1 gwei);
        vm.assertEq(coordinator.publisherShare(), 3000);
        vm.assertEq(coordinator.nextNonce(), 0);
    }

    function test_Settings_TheDearestRequestFitsItsSlot() external {
        vm.prank(owner);
        coordinator.setCallbackPrice(ETHER, 10_000_000);
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, 1000 ether);
        vm.deal(person, 2000 ether);
        bytes32 requestId = askWith(2_550_000);
        vm.assertEq(coordinator.requestOf(requestId).payment, 1002.55 ether);
        vm.assertEq(coordinator.requestOf(requestId).requester, person);
    }

    function test_Settings_OwnershipMovesInTwoSteps() external {
        vm.prank(owner);
        coordinator.transferOwnership(stranger);
        vm.assertEq(coordinator.owner(), owner);
        // The pending owner shares its slot with the nonce and the prices.
        ask();
        vm.assertEq(coordinator.pendingOwner(), stranger);
        vm.prank(stranger);
        coordinator.acceptOwnership();
        vm.assertEq(coordinator.owner(), stranger);
        vm.assertEq(coordinator.nextNonce(), 1);
        vm.assertEq(coordinator.publisherShare(), 3000);
        vm.assertEq(coordinator.callbackPriceOf(ETHER), 10_000);
    }

    function test_Settings_GivenNoOwner_ItCannotBeDeployed() external {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableInvalidOwner.selector, address(0)));
        deployCoordinator(address(0), only(operator), 1, CANCEL_WINDOW);
    }
}
