// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "../../contracts/mocks/AskingMock.sol";
import {EtherRefuser} from "../../contracts/mocks/EtherRefuser.sol";
import {GasBurner} from "../../contracts/mocks/GasBurner.sol";
import {ReentrantConsumer} from "../../contracts/mocks/ReentrantConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

contract RequestTest is CoordinatorTest {
    function test_GivenPaused_ItReverts() external {
        vm.prank(owner);
        coordinator.pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        send(modelId, cid("picture"), 0, NOW + 1 hours, PRICE);

        vm.prank(owner);
        coordinator.unpause();
        ask();
    }

    function test_GivenUnknownModel_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.UnknownModel.selector, 2));
        send(2, cid("picture"), 0, NOW + 1 hours, PRICE);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.UnknownModel.selector, 0));
        send(0, cid("picture"), 0, NOW + 1 hours, PRICE);
    }

    function test_GivenInactiveModel_ItReverts() external {
        vm.prank(publisher);
        coordinator.setModelActive(modelId, false);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.ModelInactive.selector, modelId));
        send(modelId, cid("picture"), 0, NOW + 1 hours, PRICE);
    }

    function test_GivenNoCid_ItReverts() external {
        bytes memory digest = abi.encodePacked(keccak256("picture"));
        expectInvalidCid("");
        expectInvalidCid(digest);
        expectInvalidCid(abi.encodePacked(hex"1220", digest, hex"00"));
        expectInvalidCid(abi.encodePacked(hex"1320", digest));
        expectInvalidCid(abi.encodePacked(hex"1221", digest));
        expectInvalidCid(abi.encodePacked(hex"02551220", digest));
        expectInvalidCid(abi.encodePacked(hex"01711220", digest));
        expectInvalidCid(abi.encodePacked(hex"01551320", digest));
        expectInvalidCid(abi.encodePacked(hex"01551221", digest));
        expectInvalidCid(abi.encodePacked(hex"01551220", digest, hex"00"));
    }

    function test_GivenEveryFormOfCid_ItAccepts() external {
        bytes memory digest = abi.encodePacked(keccak256("picture"));
        send(modelId, abi.encodePacked(hex"1220", digest), 0, NOW + 1 hours, PRICE);
        send(modelId, abi.encodePacked(hex"01551220", digest), 0, NOW + 1 hours, PRICE);
        send(modelId, abi.encodePacked(hex"01701220", digest), 0, NOW + 1 hours, PRICE);
        vm.assertEq(coordinator.nextNonce(), 3);
    }

    function test_GivenDeadlineOutOfRange_ItReverts() external {
        uint256[3] memory bad = [NOW + 30 seconds - 1, NOW + 7 days + 1, type(uint256).max];
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IInferenceCoordinator.DeadlineOutOfRange.selector, bad[i], NOW + 30 seconds, NOW + 7 days
                )
            );
            send(modelId, cid("picture"), 0, bad[i], PRICE);
        }
    }

    function test_GivenDeadlineAtEitherEnd_ItAccepts() external {
        send(modelId, cid("picture"), 0, NOW + 30 seconds, PRICE);
        send(modelId, cid("picture"), 0, NOW + 7 days, PRICE);
    }

    function test_GivenTooMuchCallbackGas_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.CallbackGasTooHigh.selector, 2_550_001, 2_550_000));
        send(modelId, cid("picture"), 2_550_001, NOW + 1 hours, 1 ether);
        bytes32 requestId = send(modelId, cid("picture"), 2_550_000, NOW + 1 hours, 1 ether);
        vm.assertEq(coordinator.requestOf(requestId).callbackGas, 2_550_000);
    }

    function test_GivenTooLittleEther_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, PRICE - 1, PRICE));
        send(modelId, cid("picture"), 0, NOW + 1 hours, PRICE - 1);
    }

    function test_ItHoldsThePaymentAndStoresEveryParameter() external {
        bytes32 requestId = send(modelId, cid("picture"), 50_000, NOW + 1 hours, PRICE + 50_000 gwei);
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        vm.assertEq(known.requester, person);
        vm.assertEq(known.modelId, modelId);
        vm.assertEq(known.payment, PRICE + 50_000 gwei);
        vm.assertEq(known.callbackGas, 50_000);
        vm.assertEq(known.deadline, NOW + 1 hours);
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
        vm.assertEq(uint256(known.failure), 0);
        vm.assertEq(address(coordinator).balance, PRICE + 50_000 gwei);
    }

    function test_ItEmitsEveryParameter() external {
        send(modelId, cid("first"), 0, NOW + 1 hours, PRICE);
        uint256 payment = PRICE + 30_000 gwei;
        bytes32 expected = idOf(person, 1, cid("picture"), payment, 30_000, NOW + 1 hours);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceRequested(
            expected, modelId, person, cid("picture"), payment, 30_000, NOW + 1 hours, 1
        );
        bytes32 requestId = send(modelId, cid("picture"), 20_001, NOW + 1 hours, 1 ether);
        vm.assertEq(requestId, expected);
    }

    function testFuzz_TheIdCommitsToEveryParameter(
        address requester,
        bytes32 digest,
        uint256 callbackGas,
        uint256 deadline,
        uint64 priceGwei
    ) external {
        vm.assume(requester != address(0) && requester.code.length == 0 && uint160(requester) > 1024);
        callbackGas = bound(callbackGas, 0, 2_550_000);
        deadline = bound(deadline, NOW + 30 seconds, NOW + 7 days);
        uint256 price = bound(priceGwei, 0, 1000 gwei) * 1 gwei;
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, price);

        uint256 payment = coordinator.quote(modelId, callbackGas);
        bytes memory imageCid = abi.encodePacked(hex"01701220", digest);
        vm.deal(requester, payment);
        vm.prank(requester);
        bytes32 requestId = coordinator.request{value: payment}(modelId, imageCid, callbackGas, deadline);

        uint256 rounded = (callbackGas + 9999) / 10_000 * 10_000;
        vm.assertEq(requestId, idOf(requester, 0, imageCid, payment, rounded, deadline));
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        vm.assertEq(known.requester, requester);
        vm.assertEq(known.payment, price + rounded * 1 gwei);
        vm.assertEq(known.callbackGas, rounded);
        vm.assertEq(known.deadline, deadline);
    }

    function test_GivenTwoEqualRequests_ItGivesTwoIds() external {
        vm.assertTrue(ask() != ask());
        vm.assertEq(coordinator.nextNonce(), 2);
    }

    function test_ItRoundsCallbackGasUp() external view {
        vm.assertEq(coordinator.quote(modelId, 0), PRICE);
        vm.assertEq(coordinator.quote(modelId, 1), PRICE + 10_000 gwei);
        vm.assertEq(coordinator.quote(modelId, 10_000), PRICE + 10_000 gwei);
        vm.assertEq(coordinator.quote(modelId, 10_001), PRICE + 20_000 gwei);
    }

    function test_GivenTheModelIsRepriced_ItKeepsItsPrice() external {
        bytes32 requestId = ask();
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, 5 ether);
        vm.assertEq(coordinator.requestOf(requestId).payment, PRICE);
        reportOne(success(requestId));
        vm.assertEq(coordinator.earningsOf(modelId) + balanceOf(operator), PRICE);
    }

    function test_GivenExcess_ItReturnsIt() external {
        uint256 before = person.balance;
        send(modelId, cid("picture"), 0, NOW + 1 hours, 3 ether + 1);
        vm.assertEq(before - person.balance, PRICE);
        vm.assertEq(address(coordinator).balance, PRICE);
        vm.assertEq(balanceOf(person), 0);
    }

    function test_GivenTheCallerRefusesItsExcess_ItCreditsIt() external {
        EtherRefuser refuser = new EtherRefuser(coordinator);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Credited(ETHER, address(refuser), 1 ether - PRICE);
        vm.prank(person);
        refuser.ask{value: 1 ether}(modelId, cid("picture"), 0, NOW + 1 hours);
        vm.assertEq(balanceOf(address(refuser)), 1 ether - PRICE);
        vm.assertEq(address(coordinator).balance, 1 ether);
        refuser.withdrawTo(stranger);
        vm.assertEq(stranger.balance, 1 ether - PRICE);
    }

    function test_GivenTheCallerBurnsItsGas_ItCreditsTheExcess() external {
        GasBurner burner = new GasBurner(coordinator);
        vm.prank(person);
        burner.ask{value: 1 ether}(modelId, cid("picture"), 0, NOW + 1 hours);
        vm.assertEq(balanceOf(address(burner)), 1 ether - PRICE);
    }

    function test_GivenTheCallerReenters_NothingGoesThrough() external {
        ReentrantConsumer consumer = new ReentrantConsumer(coordinator);
        consumer.prepare(abi.encodeCall(IInferenceCoordinator.request, (modelId, cid("picture"), 0, NOW + 1 hours)), 0);
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, 0);
        vm.prank(person);
        consumer.ask{value: 1 ether}(modelId, cid("picture"), 0, NOW + 1 hours);
        vm.assertEq(coordinator.nextNonce(), 1);
        vm.assertEq(consumer.breaches(), 0);
    }

    function send(uint256 model, bytes memory imageCid, uint256 callbackGas, uint256 deadline, uint256 value)
        private
        returns (bytes32)
    {
        vm.prank(person);
        return coordinator.request{value: value}(model, imageCid, callbackGas, deadline);
    }

    function expectInvalidCid(bytes memory bad) private {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.InvalidCid.selector, bad));
        send(modelId, bad, 0, NOW + 1 hours, PRICE);
    }

    function idOf(
        address requester,
        uint256 nonce,
        bytes memory imageCid,
        uint256 payment,
        uint256 callbackGas,
        uint256 deadline
    ) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                block.chainid,
                address(coordinator),
                requester,
                nonce,
                modelId,
                imageCid,
                payment,
                callbackGas,
                deadline,
                block.timestamp
            )
        );
    }
}
