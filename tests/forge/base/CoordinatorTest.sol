// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceCoordinator} from "../../../contracts/InferenceCoordinator.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {AskingMock} from "../../../contracts/mocks/AskingMock.sol";
import {TestBase} from "./Vm.sol";

/// @notice A coordinator with one model, one operator and one person with ether.
abstract contract CoordinatorTest is TestBase {
    uint256 internal constant PRICE = 0.001 ether;
    uint256 internal constant NOW = 1_900_000_000;

    address internal owner = makeAccount("owner");
    address internal operator = makeAccount("operator");
    address internal publisher = makeAccount("publisher");
    address internal payout = makeAccount("payout");
    address internal person = makeAccount("person");
    address internal stranger = makeAccount("stranger");

    InferenceCoordinator internal coordinator;
    uint256 internal modelId;

    function setUp() public virtual {
        vm.warp(NOW);
        coordinator = new InferenceCoordinator(owner);
        vm.label(address(coordinator), "coordinator");
        vm.prank(owner);
        coordinator.setOperator(operator, true);
        vm.prank(publisher);
        modelId = coordinator.publishModel(cid("manifest"), PRICE, payout);
        vm.deal(person, 1000 ether);
    }

    /// @dev A CID of version 1, codec raw. Only its form counts here, and sha256 would be a call that eats a prank.
    function cid(string memory content) internal pure returns (bytes memory) {
        return abi.encodePacked(hex"01551220", keccak256(bytes(content)));
    }

    /// @dev The answer "class `classIndex`, `bps` basis points".
    function answerOf(uint16 classIndex, uint16 bps) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(1), uint8(1), uint8(1), uint8(0), classIndex, bps, bytes24(0));
    }

    function ask() internal returns (bytes32) {
        return askWith(0);
    }

    function askWith(uint256 callbackGas) internal returns (bytes32) {
        uint256 payment = coordinator.quote(modelId, callbackGas);
        vm.prank(person);
        return coordinator.request{value: payment}(modelId, cid("picture"), callbackGas, NOW + 1 hours);
    }

    function askFrom(AskingMock consumer, uint256 callbackGas) internal returns (bytes32) {
        uint256 payment = coordinator.quote(modelId, callbackGas);
        vm.prank(person);
        return consumer.ask{value: payment}(modelId, cid("picture"), callbackGas, NOW + 1 hours);
    }

    function success(bytes32 requestId) internal pure returns (IInferenceCoordinator.Fulfilment memory) {
        return IInferenceCoordinator.Fulfilment({
            requestId: requestId,
            failure: IInferenceCoordinator.FailureReason.None,
            resultCid: cid("result"),
            answer: answerOf(7, 9876)
        });
    }

    function failure(bytes32 requestId) internal pure returns (IInferenceCoordinator.Fulfilment memory) {
        return IInferenceCoordinator.Fulfilment({
            requestId: requestId,
            failure: IInferenceCoordinator.FailureReason.ImageUnreadable,
            resultCid: "",
            answer: ""
        });
    }

    function one(IInferenceCoordinator.Fulfilment memory item)
        internal
        pure
        returns (IInferenceCoordinator.Fulfilment[] memory items)
    {
        items = new IInferenceCoordinator.Fulfilment[](1);
        items[0] = item;
    }

    function reportOne(IInferenceCoordinator.Fulfilment memory item) internal {
        vm.prank(operator);
        coordinator.report(one(item));
    }

    function assertStatus(bytes32 requestId, IInferenceCoordinator.Status expected) internal view {
        vm.assertEq(uint256(coordinator.requestOf(requestId).status), uint256(expected), "status");
    }
}
