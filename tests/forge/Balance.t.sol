// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EtherForcer} from "../../contracts/mocks/EtherForcer.sol";
import {EtherRefuser} from "../../contracts/mocks/EtherRefuser.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

contract BalanceTest is CoordinatorTest {
    function testFuzz_Deposit_ItIsAdded(uint96 first, uint96 second) external {
        vm.deal(person, uint256(first) + second);
        vm.startPrank(person);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Deposited(ETHER, person, first);
        coordinator.deposit{value: first}();
        coordinator.deposit{value: second}();
        vm.stopPrank();
        vm.assertEq(balanceOf(person), uint256(first) + second);
        vm.assertEq(balanceOf(stranger), 0);
        vm.assertEq(address(coordinator).balance, uint256(first) + second);
    }

    function test_Deposit_GivenPaused_ItIsAdded() external {
        vm.prank(owner);
        coordinator.pause();
        vm.prank(person);
        coordinator.deposit{value: 1 ether}();
        vm.assertEq(balanceOf(person), 1 ether);
    }

    function test_Deposit_GivenAnOperator_ItStaysOne() external {
        vm.deal(operator, 1 ether);
        vm.prank(operator);
        coordinator.deposit{value: 1 ether}();
        vm.assertTrue(coordinator.isOperator(operator));
        vm.assertEq(balanceOf(operator), 1 ether);
    }

    function test_GivenForcedEther_ItIsNobodys() external {
        new EtherForcer{value: 1 ether}(address(coordinator));
        vm.assertEq(address(coordinator).balance, 1 ether);
        vm.assertEq(balanceOf(address(this)), 0);
        bytes32 requestId = ask();
        reportOne(failure(requestId));
        vm.assertEq(address(coordinator).balance, 1 ether);
        (bool taken,) = address(coordinator).call{value: 1}("");
        vm.assertFalse(taken);
    }

    function test_Request_ItTakesThePriceAndNoMore() external {
        prepay(1 ether);
        uint256 payment = PRICE + 50_000 gwei;
        vm.prank(person);
        bytes32 requestId = coordinator.requestFromBalance(modelId, cid("picture"), 50_000, NOW + 1 hours, 1 ether);
        vm.assertEq(balanceOf(person), 1 ether - payment);
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        vm.assertEq(known.requester, person);
        vm.assertEq(known.payment, payment);
        vm.assertEq(known.callbackGas, 50_000);
        vm.assertEq(known.deadline, NOW + 1 hours);
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
        vm.assertEq(address(coordinator).balance, 1 ether);
    }

    function test_Request_GivenTheMaximumIsThePrice_ItIsMade_AndNotBelow() external {
        prepay(1 ether);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, PRICE, PRICE - 1));
        askFromBalance(PRICE - 1);
        askFromBalance(PRICE);
        vm.assertEq(coordinator.nextNonce(), 1);
    }

    function test_Request_GivenThePriceRose_TheMaximumHolds() external {
        prepay(1 ether);
        uint256 quoted = coordinator.quote(modelId, 0);
        vm.prank(publisher);
        coordinator.setModelPrice(modelId, 0.5 ether);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, 0.5 ether, quoted));
        askFromBalance(quoted);
    }

    function testFuzz_Request_GivenTooLowABalance_ItReverts(uint256 held) external {
        held = bound(held, 0, PRICE - 1);
        prepay(held);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.BalanceTooLow.selector, ETHER, person, held, PRICE)
        );
        askFromBalance(PRICE);
        vm.deal(person, 1 ether);
        vm.prank(person);
        coordinator.deposit{value: PRICE - held}();
        askFromBalance(PRICE);
        vm.assertEq(balanceOf(person), 0);
    }

    function test_Request_GivenPaused_ItReverts() external {
        prepay(1 ether);
        vm.prank(owner);
        coordinator.pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        askFromBalance(PRICE);
    }

    function test_Request_GivenBadTerms_ItRevertsAndTakesNothing() external {
        prepay(1 ether);
        vm.startPrank(person);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.InvalidCid.selector, bytes("no")));
        coordinator.requestFromBalance(modelId, "no", 0, NOW + 1 hours, PRICE);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.UnknownModel.selector, 2));
        coordinator.requestFromBalance(2, cid("picture"), 0, NOW + 1 hours, PRICE);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.DeadlineOutOfRange.selector, NOW, NOW + 30 seconds, NOW + 7 days
            )
        );
        coordinator.requestFromBalance(modelId, cid("picture"), 0, NOW, PRICE);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.CallbackGasTooHigh.selector, 3_000_000, 2_550_000));
        coordinator.requestFromBalance(modelId, cid("picture"), 3_000_000, NOW + 1 hours, 1 ether);
        vm.stopPrank();
        vm.assertEq(balanceOf(person), 1 ether);
        vm.assertEq(coordinator.nextNonce(), 0);
    }

    function test_GivenPaidFromTheBalance_AnAnswerIsPaidForAsAnyOther() external {
        prepay(PRICE);
        reportOne(success(askFromBalance(PRICE)));
        vm.assertEq(coordinator.earningsOf(modelId), PRICE * 3 / 10);
        vm.assertEq(balanceOf(operator), PRICE * 7 / 10);
        vm.assertEq(balanceOf(person), 0);
    }

    function test_GivenPaidFromTheBalance_AFailureAndARefundGoBackThere() external {
        prepay(1 ether);
        uint256 outside = person.balance;
        bytes32 failed = askFromBalance(PRICE);
        bytes32 refunded = askFromBalance(PRICE);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceRefunded(failed, person, PRICE);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Credited(ETHER, person, PRICE);
        reportOne(failure(failed));
        vm.assertEq(balanceOf(person), 1 ether - PRICE);
        vm.warp(NOW + 2 hours);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Credited(ETHER, person, PRICE);
        vm.prank(stranger);
        coordinator.refund(refunded);
        vm.assertEq(balanceOf(person), 1 ether);
        vm.assertEq(person.balance, outside);
        vm.assertEq(coordinator.requestOf(failed).payment, PRICE);
        vm.assertEq(coordinator.requestOf(refunded).payment, PRICE);
    }

    function test_GivenPaidByValue_ARefundThatIsRefusedLandsInTheBalance_AndPaysForAnother() external {
        EtherRefuser refuser = new EtherRefuser(coordinator);
        reportOne(failure(askFrom(refuser, 0)));
        vm.assertEq(balanceOf(address(refuser)), PRICE);
        vm.prank(address(refuser));
        coordinator.requestFromBalance(modelId, cid("picture"), 0, NOW + 1 hours, PRICE);
        vm.assertEq(balanceOf(address(refuser)), 0);
        vm.assertEq(address(coordinator).balance, PRICE);
    }

    function prepay(uint256 amount) private {
        vm.prank(person);
        coordinator.deposit{value: amount}();
    }

    function askFromBalance(uint256 maxPayment) private returns (bytes32) {
        vm.prank(person);
        return coordinator.requestFromBalance(modelId, cid("picture"), 0, block.timestamp + 1 hours, maxPayment);
    }
}
