// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {ICoordinator} from "./base/Deployer.sol";

contract RequestIdTest is CoordinatorTest {
    function testFuzz_ItIsTheIdThatTheRequestGot(uint256 callbackGas, uint256 deadline, uint32 later) external {
        vm.warp(NOW + bound(later, 0, 2_000_000_000));
        deadline = bound(deadline, block.timestamp + 30 seconds, block.timestamp + 7 days);
        IInferenceCoordinator.RequestTerms memory terms =
            termsOf(0, (bound(callbackGas, 0, 2_550_000) + 9999) / 10_000 * 10_000);
        terms.deadline = deadline;
        vm.prank(person);
        bytes32 requestId =
            coordinator.request{value: terms.payment}(modelId, cid("picture"), terms.callbackGas, deadline);
        vm.assertEq(coordinator.requestIdOf(person, terms), requestId);
        vm.assertEq(
            requestId,
            keccak256(
                abi.encode(
                    block.chainid,
                    address(coordinator),
                    person,
                    uint256(0),
                    modelId,
                    cid("picture"),
                    terms.payment,
                    terms.callbackGas,
                    deadline,
                    block.timestamp
                )
            )
        );
    }

    function test_EveryWayToAskGivesSuchAnId() external {
        vm.startPrank(person);
        coordinator.deposit{value: 1 ether}();
        bytes[] memory images = new bytes[](1);
        images[0] = cid("picture");
        bytes32[4] memory ids = [
            coordinator.request{value: PRICE}(modelId, images[0], 0, NOW + 1 hours),
            coordinator.requestFromBalance(modelId, images[0], 0, NOW + 1 hours, PRICE),
            coordinator.requestMany{value: PRICE}(modelId, images, 0, NOW + 1 hours)[0],
            coordinator.requestManyFromBalance(modelId, images, 0, NOW + 1 hours, PRICE)[0]
        ];
        vm.stopPrank();
        for (uint256 i = 0; i < ids.length; ++i) {
            vm.assertEq(ids[i], coordinator.requestIdOf(person, termsOf(i, 0)));
        }
    }

    function testFuzz_EveryParameterChangesIt(
        address requester,
        IInferenceCoordinator.RequestTerms memory terms,
        uint256 other
    ) external view {
        vm.assume(
            other != terms.nonce && other != terms.modelId && other != terms.payment && other != terms.callbackGas
                && other != terms.deadline && other != terms.createdAt
        );
        bytes32 id = coordinator.requestIdOf(requester, terms);
        vm.assertNotEq(id, coordinator.requestIdOf(address(~uint160(requester)), terms));
        (terms.nonce, other) = (other, terms.nonce);
        vm.assertNotEq(id, coordinator.requestIdOf(requester, terms));
        (terms.nonce, other) = (other, terms.nonce);
        (terms.modelId, other) = (other, terms.modelId);
        vm.assertNotEq(id, coordinator.requestIdOf(requester, terms));
        (terms.modelId, other) = (other, terms.modelId);
        (terms.payment, other) = (other, terms.payment);
        vm.assertNotEq(id, coordinator.requestIdOf(requester, terms));
        (terms.payment, other) = (other, terms.payment);
        (terms.callbackGas, other) = (other, terms.callbackGas);
        vm.assertNotEq(id, coordinator.requestIdOf(requester, terms));
        (terms.callbackGas, other) = (other, terms.callbackGas);
        (terms.deadline, other) = (other, terms.deadline);
        vm.assertNotEq(id, coordinator.requestIdOf(requester, terms));
        (terms.deadline, other) = (other, terms.deadline);
        (terms.createdAt, other) = (other, terms.createdAt);
        vm.assertNotEq(id, coordinator.requestIdOf(requester, terms));
        (terms.createdAt, other) = (other, terms.createdAt);
        vm.assertEq(id, coordinator.requestIdOf(requester, terms));
        terms.imageCid = abi.encodePacked(terms.imageCid, hex"00");
        vm.assertNotEq(id, coordinator.requestIdOf(requester, terms));
    }

    function test_AnotherChainOrCoordinatorChangesIt() external {
        IInferenceCoordinator.RequestTerms memory terms = termsOf(0, 0);
        bytes32 id = coordinator.requestIdOf(person, terms);
        ICoordinator other = deployCoordinator(owner, only(operator), 1, CANCEL_WINDOW);
        vm.assertNotEq(id, other.requestIdOf(person, terms));
        vm.chainId(block.chainid + 1);
        vm.assertNotEq(id, coordinator.requestIdOf(person, terms));
    }

    function test_TheSameRequestInAnotherBlockGetsAnotherId() external {
        uint256 snapshot = vm.snapshotState();
        bytes32 here = ask();
        vm.revertToState(snapshot);
        vm.assertEq(here, ask());
        vm.revertToState(snapshot);
        vm.warp(NOW + 1);
        vm.prank(person);
        bytes32 there = coordinator.request{value: PRICE}(modelId, cid("picture"), 0, NOW + 1 hours);
        vm.assertNotEq(here, there);
    }
}
