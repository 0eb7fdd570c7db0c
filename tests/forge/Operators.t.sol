// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

contract OperatorsTest is CoordinatorTest {
    function test_TheFirstSetIsInForceAtOnce() external {
        address[] memory three = crowd(3);
        vm.expectEmit();
        emit IInferenceCoordinator.OperatorsSet(three, 2);
        coordinator = deployCoordinator(owner, three, 2, CANCEL_WINDOW);
        expectSet(three, 2);
        vm.assertFalse(coordinator.isOperator(operator));
        (bytes32 hash, uint256 effectiveAt) = coordinator.proposal();
        vm.assertEq(hash, bytes32(0));
        vm.assertEq(effectiveAt, 0);
    }

    function testFuzz_EverySetInBoundsCanBePutInForce(uint8 number, uint8 signers) external {
        uint256 count = bound(number, 1, 16);
        uint256 quorum = bound(signers, 1, count);
        address[] memory set = crowd(count);
        install(set, quorum);
        expectSet(set, quorum);
        vm.assertFalse(coordinator.isOperator(operator));
    }

    function test_GivenASetOutOfBounds_ItReverts() external {
        expectBadSet(crowd(0), 0, outOfRange(0, 0));
        expectBadSet(crowd(0), 1, outOfRange(0, 1));
        expectBadSet(crowd(3), 0, outOfRange(3, 0));
        expectBadSet(crowd(3), 4, outOfRange(3, 4));
        expectBadSet(crowd(3), 258, outOfRange(3, 258));
        expectBadSet(crowd(17), 1, outOfRange(17, 1));
    }

    function test_GivenASetThatDoesNotRise_ItReverts() external {
        address[] memory set = crowd(3);
        (set[1], set[2]) = (set[2], set[1]);
        expectBadSet(set, 2, notRising(set[1], set[2]));
        set = crowd(3);
        set[1] = set[0];
        expectBadSet(set, 2, notRising(set[0], set[0]));
        set = crowd(3);
        set[0] = address(0);
        expectBadSet(set, 2, notRising(address(0), address(0)));
    }

    function test_GivenAProposal_EverybodySeesIt_AndNothingChangesYet() external {
        address[] memory set = crowd(3);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.OperatorsProposed(set, 2, NOW + 7 days + 1);
        propose(set, 2);
        (bytes32 hash, uint256 effectiveAt) = coordinator.proposal();
        vm.assertEq(hash, keccak256(abi.encode(set, uint256(2))));
        vm.assertEq(effectiveAt, NOW + 7 days + 1);
        expectSet(only(operator), 1);
        vm.assertFalse(coordinator.isOperator(set[0]));
    }

    function test_GivenSevenDays_ItCanBeApplied_AndNotASecondBefore() external {
        address[] memory set = crowd(3);
        propose(set, 2);
        vm.warp(NOW + 7 days);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.ProposalTooEarly.selector, NOW + 7 days + 1));
        enact(set, 2);
        vm.warp(NOW + 7 days + 1);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.OperatorsSet(set, 2);
        enact(set, 2);
        expectSet(set, 2);
        vm.assertFalse(coordinator.isOperator(operator));
        (bytes32 hash, uint256 effectiveAt) = coordinator.proposal();
        vm.assertEq(hash, bytes32(0));
        vm.assertEq(effectiveAt, 0);
        // Applied once.
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NoSuchProposal.selector, bytes32(0)));
        enact(set, 2);
    }

    function test_GivenAnotherSetOrQuorum_ItIsNotApplied() external {
        address[] memory set = crowd(3);
        propose(set, 2);
        vm.warp(NOW + 8 days);
        bytes memory refusal = abi.encodeWithSelector(
            IInferenceCoordinator.NoSuchProposal.selector, keccak256(abi.encode(set, uint256(2)))
        );
        vm.expectRevert(refusal);
        enact(set, 1);
        vm.expectRevert(refusal);
        enact(crowd(2), 2);
        vm.expectRevert(refusal);
        enact(only(operator), 1);
        expectSet(only(operator), 1);
        enact(set, 2);
    }

    function test_GivenNoProposal_NothingIsAppliedOrWithdrawn() external {
        bytes memory refusal = abi.encodeWithSelector(IInferenceCoordinator.NoSuchProposal.selector, bytes32(0));
        vm.expectRevert(refusal);
        enact(crowd(3), 2);
        vm.expectRevert(refusal);
        vm.prank(owner);
        coordinator.withdrawProposal();
    }

    function test_GivenASecondProposal_ItTakesTheFirstOnesPlaceAndWaitsAnew() external {
        address[] memory first = crowd(2);
        address[] memory second = crowd(3);
        propose(first, 1);
        vm.warp(NOW + 6 days);
        propose(second, 2);
        vm.warp(NOW + 7 days + 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceCoordinator.NoSuchProposal.selector, keccak256(abi.encode(second, uint256(2)))
            )
        );
        enact(first, 1);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.ProposalTooEarly.selector, NOW + 13 days + 1));
        enact(second, 2);
        vm.warp(NOW + 13 days + 1);
        enact(second, 2);
        expectSet(second, 2);
    }

    function test_GivenAWithdrawnProposal_ItIsNotApplied() external {
        propose(crowd(3), 2);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.OperatorsProposalWithdrawn();
        vm.prank(owner);
        coordinator.withdrawProposal();
        (bytes32 hash, uint256 effectiveAt) = coordinator.proposal();
        vm.assertEq(hash, bytes32(0));
        vm.assertEq(effectiveAt, 0);
        vm.warp(NOW + 8 days);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NoSuchProposal.selector, bytes32(0)));
        enact(crowd(3), 2);
    }

    function test_GivenAnotherCallerThanTheOwner_EveryChangeReverts() external {
        propose(crowd(3), 2);
        vm.warp(NOW + 8 days);
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, operator);
        vm.startPrank(operator);
        vm.expectRevert(refusal);
        coordinator.proposeOperators(crowd(2), 1);
        vm.expectRevert(refusal);
        coordinator.withdrawProposal();
        vm.expectRevert(refusal);
        coordinator.applyOperators(crowd(3), 2);
        vm.expectRevert(refusal);
        coordinator.removeOperator(operator);
        vm.stopPrank();
        expectSet(only(operator), 1);
    }

    function test_GivenANewSet_TheOldOnesLoseAndTheOthersReport() external {
        address[] memory set = crowd(2);
        install(set, 1);
        bytes32 requestId = ask();
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, operator));
        reportOne(success(requestId));
        vm.prank(set[1]);
        coordinator.report(one(success(requestId)));
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
        vm.assertEq(balanceOf(set[1]), PRICE * 7 / 10);
    }

    function test_GivenAnOperatorInBothSets_ItStaysWithTheNewQuorum() external {
        reportOne(success(ask()));
        address[] memory set = crowd(2);
        set[0] = operator;
        install(rising(set), 2);
        vm.assertTrue(coordinator.isOperator(operator));
        // What it was paid shares a slot with the quorum.
        vm.assertEq(balanceOf(operator), PRICE * 7 / 10);
        bytes32 requestId = ask();
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.QuorumNotMet.selector, 1, 2));
        reportOne(success(requestId));
        install(only(operator), 1);
        requestId = ask();
        reportOne(success(requestId));
        vm.assertEq(balanceOf(operator), 2 * (PRICE * 7 / 10));
    }

    function test_GivenAQuorumOfTwo_NobodyReportsAlone() external {
        address[] memory set = crowd(3);
        install(set, 2);
        bytes32 requestId = ask();
        for (uint256 i = 0; i < set.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.QuorumNotMet.selector, 1, 2));
            vm.prank(set[i]);
            coordinator.report(one(success(requestId)));
        }
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
    }

    function testFuzz_Remove_ItIsGoneAtOnce_AndTheOthersKeepTheirOrder(uint8 number, uint8 which) external {
        uint256 count = bound(number, 1, 16);
        address[] memory set = crowd(count);
        uint256 place = bound(which, 0, count - 1);
        install(set, 1);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.OperatorRemoved(set[place]);
        vm.prank(owner);
        coordinator.removeOperator(set[place]);

        address[] memory left = new address[](count - 1);
        for (uint256 i = 0; i < count - 1; ++i) {
            left[i] = set[i < place ? i : i + 1];
        }
        expectSet(left, 1);
        vm.assertFalse(coordinator.isOperator(set[place]));
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, set[place]));
        vm.prank(set[place]);
        coordinator.report(one(success(keccak256("any"))));
    }

    function test_Remove_GivenNoOperator_ItReverts() external {
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, stranger));
        coordinator.removeOperator(stranger);
        coordinator.removeOperator(operator);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, operator));
        coordinator.removeOperator(operator);
        vm.stopPrank();
    }

    function test_Remove_ItKeepsItsMoney() external {
        reportOne(success(ask()));
        vm.prank(owner);
        coordinator.removeOperator(operator);
        vm.assertEq(balanceOf(operator), PRICE * 7 / 10);
        vm.prank(operator);
        coordinator.withdraw(ETHER, operator, PRICE * 7 / 10);
        vm.assertFalse(coordinator.isOperator(operator));
    }

    function test_Remove_GivenTheLast_NobodyReports_AndTheMoneyGoesBack() external {
        bytes32 requestId = ask();
        vm.prank(owner);
        coordinator.removeOperator(operator);
        vm.assertEq(coordinator.operators().length, 0);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.NotOperator.selector, operator));
        reportOne(success(requestId));
        vm.warp(NOW + 2 hours);
        coordinator.refund(requestId);
        vm.assertEq(person.balance, 1000 ether);
        install(only(operator), 1);
        reportOne(success(ask()));
    }

    /// @dev Accounts in rising order.
    function crowd(uint256 count) private returns (address[] memory accounts) {
        accounts = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            accounts[i] = makeAccount(string(abi.encodePacked("operator ", vm.toString(i))));
        }
        return rising(accounts);
    }

    function propose(address[] memory set, uint256 quorum) private {
        vm.prank(owner);
        coordinator.proposeOperators(set, quorum);
    }

    function enact(address[] memory set, uint256 quorum) private {
        vm.prank(owner);
        coordinator.applyOperators(set, quorum);
    }

    function install(address[] memory set, uint256 quorum) private {
        propose(set, quorum);
        (, uint256 effectiveAt) = coordinator.proposal();
        vm.warp(effectiveAt);
        enact(set, quorum);
    }

    function outOfRange(uint256 count, uint256 quorum) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IInferenceCoordinator.OperatorSetOutOfRange.selector, count, quorum, 16);
    }

    function notRising(address previous, address next) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IInferenceCoordinator.OperatorsNotRising.selector, previous, next);
    }

    function expectBadSet(address[] memory set, uint256 quorum, bytes memory reason) private {
        vm.expectRevert(reason);
        propose(set, quorum);
        vm.expectRevert(reason);
        deployCoordinator(owner, set, quorum, CANCEL_WINDOW);
    }

    function expectSet(address[] memory set, uint256 quorum) private view {
        vm.assertEq(coordinator.operators(), set);
        vm.assertEq(coordinator.quorum(), quorum);
        for (uint256 i = 0; i < set.length; ++i) {
            vm.assertTrue(coordinator.isOperator(set[i]));
        }
    }
}
