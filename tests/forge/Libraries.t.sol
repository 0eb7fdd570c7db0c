// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ClassificationAnswer} from "../../contracts/ClassificationAnswer.sol";
import {RequestSlot} from "../../contracts/RequestSlot.sol";
import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {TestBase} from "./base/Vm.sol";

contract RequestSlotTest is TestBase {
    using RequestSlot for uint256;

    function testFuzz_ItGivesEveryFieldBack(
        address requester,
        uint40 payment,
        uint32 deadline,
        uint8 units,
        uint16 model,
        bool toBalance
    ) external pure {
        uint256 modelId = bound(model, 0, 4095);
        uint256 slot = RequestSlot.pending(requester, payment, deadline, units, modelId, toBalance);
        check(slot, requester, payment, deadline, modelId, toBalance);
        vm.assertEq(slot.units(), units);
        vm.assertEq(uint256(slot.status()), uint256(IInferenceCoordinator.Status.Pending));

        for (uint256 i = 0; i < 2; ++i) {
            IInferenceCoordinator.Status back =
                i == 0 ? IInferenceCoordinator.Status.Refunded : IInferenceCoordinator.Status.Cancelled;
            slot = slot.withStatus(back);
            check(slot, requester, payment, deadline, modelId, toBalance);
            vm.assertEq(slot.units(), units);
            vm.assertEq(uint256(slot.status()), uint256(back));
        }
    }

    function testFuzz_AfterAFailure_ItGivesTheReason(
        address requester,
        uint40 payment,
        uint32 deadline,
        uint8 units,
        uint8 number,
        bool toBalance
    ) external pure {
        IInferenceCoordinator.FailureReason reason = IInferenceCoordinator.FailureReason(bound(number, 1, 6));
        uint256 slot = RequestSlot.pending(requester, payment, deadline, units, 77, toBalance).failed(reason);
        check(slot, requester, payment, deadline, 77, toBalance);
        vm.assertEq(uint256(slot.failure()), uint256(reason));
        vm.assertEq(uint256(slot.status()), uint256(IInferenceCoordinator.Status.Failed));
    }

    function testFuzz_AfterAnAnswer_ItCommitsToIt(
        bytes32 commitment,
        bytes32 other,
        uint8 units,
        uint16 model,
        bool toBalance
    ) external pure {
        vm.assume(commitment >> 24 != other >> 24);
        uint256 modelId = bound(model, 0, 4095);
        uint256 slot = RequestSlot.pending(address(1), 2, 3, units, modelId, toBalance);
        vm.assertFalse(slot.commitsTo(bytes32(slot)));
        slot = slot.fulfilled(commitment);
        for (uint256 i = 0; i < 2; ++i) {
            vm.assertTrue(slot.commitsTo(commitment));
            vm.assertFalse(slot.commitsTo(other));
            vm.assertEq(slot.units(), units);
            vm.assertEq(slot.modelId(), modelId);
            vm.assertFalse(slot.isWhole());
            slot = slot.withStatus(IInferenceCoordinator.Status.CallbackFailed);
        }
    }

    function check(uint256 slot, address requester, uint256 payment, uint256 deadline, uint256 modelId, bool toBalance)
        private
        pure
    {
        vm.assertTrue(slot.isWhole());
        vm.assertEq(slot.requester(), requester);
        vm.assertEq(slot.payment(), payment);
        vm.assertEq(slot.deadline(), deadline);
        vm.assertEq(slot.modelId(), modelId);
        vm.assertEq(slot.toBalance() ? 1 : 0, toBalance ? 1 : 0);
    }
}

contract ClassificationAnswerTest is TestBase {
    function testFuzz_ItDecodesWhatWasEncoded(uint8 familiarity, uint8 number, uint256 seed) external view {
        uint256 count = bound(number, 1, 7);
        bytes memory answer = abi.encodePacked(uint8(1), uint8(1), uint8(count), familiarity);
        uint16[] memory classes = new uint16[](count);
        uint16[] memory confidences = new uint16[](count);
        uint256 ceiling = 10_000;
        for (uint256 i = 0; i < count; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            classes[i] = uint16(seed);
            ceiling = bound(seed >> 16, 0, ceiling);
            confidences[i] = uint16(ceiling);
            answer = abi.encodePacked(answer, classes[i], confidences[i]);
        }
        answer = abi.encodePacked(answer, new bytes(32 - answer.length));

        ClassificationAnswer.Decoded memory decoded = this.decode(answer);
        vm.assertEq(decoded.familiarity, familiarity);
        vm.assertEq(abi.encode(decoded.classes), abi.encode(classes));
        vm.assertEq(abi.encode(decoded.confidences), abi.encode(confidences));
        (uint16 classIndex, uint16 confidence) = this.top(answer);
        vm.assertEq(classIndex, classes[0]);
        vm.assertEq(confidence, confidences[0]);
    }

    function test_ItDecodesAKnownWord() external view {
        ClassificationAnswer.Decoded memory decoded =
            this.decode(hex"010103c800072694000100500009000a00000000000000000000000000000000");
        vm.assertEq(decoded.familiarity, 200);
        vm.assertEq(decoded.classes.length, 3);
        vm.assertEq(decoded.classes[0], 7);
        vm.assertEq(decoded.confidences[0], 9876);
        vm.assertEq(decoded.classes[2], 9);
        vm.assertEq(decoded.confidences[2], 10);
    }

    function test_GivenAnotherLength_ItReverts() external {
        for (uint256 length = 0; length < 65; ++length) {
            if (length == 32) continue;
            bytes memory answer = new bytes(length);
            bytes memory wrong = abi.encodeWithSelector(ClassificationAnswer.AnswerLengthWrong.selector, length);
            vm.expectRevert(wrong);
            this.decode(answer);
            vm.expectRevert(wrong);
            this.top(answer);
        }
    }

    function test_GivenAnotherVersionOrKind_ItReverts() external {
        expectBad(
            hex"0201010000072694000000000000000000000000000000000000000000000000",
            abi.encodeWithSelector(ClassificationAnswer.AnswerNotClassification.selector, 2, 1)
        );
        expectBad(
            hex"0102010000072694000000000000000000000000000000000000000000000000",
            abi.encodeWithSelector(ClassificationAnswer.AnswerNotClassification.selector, 1, 2)
        );
        expectBad(
            bytes.concat(bytes32(0)),
            abi.encodeWithSelector(ClassificationAnswer.AnswerNotClassification.selector, 0, 0)
        );
    }

    function test_GivenABadCount_ItReverts() external {
        expectBad(
            hex"0101000000072694000000000000000000000000000000000000000000000000",
            abi.encodeWithSelector(ClassificationAnswer.ClassCountWrong.selector, 0)
        );
        expectBad(
            hex"0101080000072694000000000000000000000000000000000000000000000000",
            abi.encodeWithSelector(ClassificationAnswer.ClassCountWrong.selector, 8)
        );
    }

    function test_GivenABadConfidence_ItReverts() external {
        expectBad(
            hex"0101010000072711000000000000000000000000000000000000000000000000",
            abi.encodeWithSelector(ClassificationAnswer.ConfidenceWrong.selector, 0, 10_001)
        );
        bytes memory rising = hex"0101020000070001000800020000000000000000000000000000000000000000";
        vm.expectRevert(abi.encodeWithSelector(ClassificationAnswer.ConfidenceWrong.selector, 1, 2));
        this.decode(rising);
    }

    function test_GivenBytesAfterTheLastClass_ItReverts() external {
        vm.expectRevert(ClassificationAnswer.TrailingBytes.selector);
        this.decode(hex"0101010000072694000000000000000000000000000000000000000000000001");
        vm.expectRevert(ClassificationAnswer.TrailingBytes.selector);
        this.decode(hex"0101010000072694010000000000000000000000000000000000000000000000");
    }

    function test_GivenSevenClasses_ItDecodesTheWholeWord() external view {
        ClassificationAnswer.Decoded memory decoded =
            this.decode(hex"010107ff00012710000200000003000000040000000500000006000000070000");
        vm.assertEq(decoded.classes.length, 7);
        vm.assertEq(decoded.confidences[0], 10_000);
        vm.assertEq(decoded.classes[6], 7);
    }

    function decode(bytes calldata answer) external pure returns (ClassificationAnswer.Decoded memory) {
        return ClassificationAnswer.decode(answer);
    }

    function top(bytes calldata answer) external pure returns (uint16, uint16) {
        return ClassificationAnswer.top(answer);
    }

    function expectBad(bytes memory answer, bytes memory reason) private {
        vm.expectRevert(reason);
        this.decode(answer);
        vm.expectRevert(reason);
        this.top(answer);
    }
}
