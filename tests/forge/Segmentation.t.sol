// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {SegmentationAnswer} from "../../contracts/SegmentationAnswer.sol";
import {TestBase} from "./base/Vm.sol";

contract SegmentationTest is TestBase {
    // Three answers written by hand, byte by byte; whatever encodes answers is held against them.

    /// @dev Nothing was found in a picture of 640 by 480, familiarity not measured.
    bytes private constant NOTHING = hex"010200000000028001e000000000000000000000000000000000000000000000";

    /// @dev One of one in the same picture, familiarity 200: class 16, 9,876 basis points, rows 10 to 109, columns 20
    /// to 219, 12,345 pixels.
    bytes private constant ONE = hex"010201c80001028001e000000000000000000000000000000000000000000000"
        hex"00102694000a0014006e00dc00003039";

    /// @dev Three of forty in a picture of 1,024 by 768, familiarity 255: class 1 at 10,000 over the whole picture,
    /// class 80 at 5,000 in its last pixel, class 1 at 5,000 with a box of four pixels and an empty mask.
    bytes private constant THREE = hex"010203ff00280400030000000000000000000000000000000000000000000000"
        hex"000127100000000003000400000c0000" hex"0050138802ff03ff0300040000000001"
        hex"00011388000100020003000400000000";

    function test_ItDecodesNothing() external view {
        SegmentationAnswer.Decoded memory decoded = this.decode(NOTHING);
        vm.assertEq(decoded.familiarity, 0);
        vm.assertEq(decoded.found, 0);
        vm.assertEq(decoded.width, 640);
        vm.assertEq(decoded.height, 480);
        vm.assertEq(decoded.instances.length, 0);
        vm.assertEq(this.count(NOTHING, 0, 0), 0);
    }

    function test_ItDecodesOne() external view {
        SegmentationAnswer.Decoded memory decoded = this.decode(ONE);
        vm.assertEq(decoded.familiarity, 200);
        vm.assertEq(decoded.found, 1);
        vm.assertEq(decoded.instances.length, 1);
        assertInstance(decoded.instances[0], SegmentationAnswer.Instance(16, 9876, 10, 20, 110, 220, 12_345));
        assertInstance(this.at(ONE, 0), decoded.instances[0]);
    }

    function test_ItDecodesThree() external view {
        SegmentationAnswer.Decoded memory decoded = this.decode(THREE);
        vm.assertEq(decoded.familiarity, 255);
        vm.assertEq(decoded.found, 40);
        vm.assertEq(decoded.width, 1024);
        vm.assertEq(decoded.height, 768);
        vm.assertEq(decoded.instances.length, 3);
        assertInstance(decoded.instances[0], SegmentationAnswer.Instance(1, 10_000, 0, 0, 768, 1024, 786_432));
        assertInstance(decoded.instances[1], SegmentationAnswer.Instance(80, 5000, 767, 1023, 768, 1024, 1));
        assertInstance(decoded.instances[2], SegmentationAnswer.Instance(1, 5000, 1, 2, 3, 4, 0));
    }

    function test_Count_ItCountsAClassFromAScoreOn() external view {
        vm.assertEq(this.count(THREE, 1, 0), 2);
        vm.assertEq(this.count(THREE, 1, 5000), 2);
        vm.assertEq(this.count(THREE, 1, 5001), 1);
        vm.assertEq(this.count(THREE, 1, 10_000), 1);
        vm.assertEq(this.count(THREE, 80, 5000), 1);
        vm.assertEq(this.count(THREE, 80, 5001), 0);
        vm.assertEq(this.count(THREE, 2, 0), 0);
    }

    function testFuzz_ItDecodesWhatWasEncoded(uint8 familiarity, uint8 number, uint16 more, uint256 seed)
        external
        view
    {
        SegmentationAnswer.Decoded memory made = random(familiarity, bound(number, 0, 31), more, seed);
        bytes memory answer = encode(made);
        vm.assertEq(abi.encode(this.decode(answer)), abi.encode(made));

        uint16 classIndex = uint16(seed % 4);
        uint16 minScoreBps = uint16(bound(seed >> 8, 0, 10_000));
        uint256 expected;
        for (uint256 i = 0; i < made.instances.length; ++i) {
            assertInstance(this.at(answer, i), made.instances[i]);
            if (made.instances[i].classIndex == classIndex && made.instances[i].scoreBps >= minScoreBps) ++expected;
        }
        vm.assertEq(this.count(answer, classIndex, minScoreBps), expected);
    }

    function test_TheLongestAnswer_HasTheLengthThatIsPromised() external view {
        bytes memory answer = encode(random(1, 31, 0, 7));
        vm.assertEq(answer.length, 528);
        vm.assertEq(this.decode(answer).instances.length, 31);
    }

    function test_GivenAnotherLength_ItReverts() external {
        bytes memory whole = bytes.concat(ONE, new bytes(32));
        for (uint256 length = 0; length <= whole.length; ++length) {
            if (length == ONE.length) continue;
            bytes memory answer = new bytes(length);
            for (uint256 i = 0; i < length; ++i) {
                answer[i] = whole[i];
            }
            uint256 expected = length < 32 ? 32 : ONE.length;
            expectBad(answer, abi.encodeWithSelector(SegmentationAnswer.AnswerLengthWrong.selector, length, expected));
        }
    }

    function test_GivenAnotherVersionOrKind_ItReverts() external {
        expectBad(
            changed(ONE, 0, 0x0202), abi.encodeWithSelector(SegmentationAnswer.AnswerNotSegmentation.selector, 2, 2)
        );
        expectBad(
            changed(ONE, 0, 0x0101), abi.encodeWithSelector(SegmentationAnswer.AnswerNotSegmentation.selector, 1, 1)
        );
    }

    function test_GivenABadCount_ItReverts() external {
        bytes memory answer = changed(changed(ONE, 2, 0x20c8), 4, 0x0020);
        expectBad(answer, abi.encodeWithSelector(SegmentationAnswer.InstanceCountWrong.selector, 32, 32));
        answer = changed(ONE, 4, 0x0000);
        expectBad(answer, abi.encodeWithSelector(SegmentationAnswer.InstanceCountWrong.selector, 1, 0));
    }

    function test_GivenAPictureWithoutWidthOrHeight_ItReverts() external {
        expectBad(changed(ONE, 6, 0x0000), abi.encodeWithSelector(SegmentationAnswer.ImageSizeWrong.selector, 0, 480));
        expectBad(changed(ONE, 8, 0x0000), abi.encodeWithSelector(SegmentationAnswer.ImageSizeWrong.selector, 640, 0));
    }

    function test_GivenBytesAtTheEndOfTheHead_ItReverts() external {
        for (uint256 i = 10; i < 32; i += 2) {
            expectBad(changed(ONE, i, 0x0100), abi.encodeWithSelector(SegmentationAnswer.TrailingBytes.selector));
            expectBad(changed(ONE, i, 0x0001), abi.encodeWithSelector(SegmentationAnswer.TrailingBytes.selector));
        }
    }

    function test_GivenABadScore_ItReverts() external {
        expectBad(changed(ONE, 34, 0x2711), abi.encodeWithSelector(SegmentationAnswer.ScoreWrong.selector, 0, 10_001));
        bytes memory rising = changed(THREE, 66, 0x1389);
        bytes memory wrong = abi.encodeWithSelector(SegmentationAnswer.ScoreWrong.selector, 2, 5001);
        vm.expectRevert(wrong);
        this.decode(rising);
        vm.expectRevert(wrong);
        this.count(rising, 1, 0);
    }

    function test_GivenABadBox_ItReverts() external {
        // ONE has rows 10 to 109 of 480 and columns 20 to 219 of 640
        expectBadBox(changed(ONE, 36, 0x006e), 110, 20, 110, 220);
        expectBadBox(changed(ONE, 36, 0x006f), 111, 20, 110, 220);
        expectBadBox(changed(ONE, 38, 0x00dc), 10, 220, 110, 220);
        expectBadBox(changed(ONE, 38, 0x00dd), 10, 221, 110, 220);
        expectBadBox(changed(ONE, 40, 0x01e1), 10, 20, 481, 220);
        expectBadBox(changed(ONE, 42, 0x0281), 10, 20, 110, 641);
    }

    function test_GivenAMaskLargerThanItsBox_ItReverts() external {
        // 100 rows of 200 columns
        this.decode(changed(ONE, 46, 0x4e20));
        bytes memory answer = changed(ONE, 46, 0x4e21);
        bytes memory wrong = abi.encodeWithSelector(SegmentationAnswer.AreaWrong.selector, 0, 20_001, 20_000);
        vm.expectRevert(wrong);
        this.decode(answer);
        vm.expectRevert(wrong);
        this.at(answer, 0);
    }

    function test_At_GivenNoSuchInstance_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(SegmentationAnswer.NoSuchInstance.selector, 0, 0));
        this.at(NOTHING, 0);
        vm.expectRevert(abi.encodeWithSelector(SegmentationAnswer.NoSuchInstance.selector, 3, 3));
        this.at(THREE, 3);
    }

    // The library's functions as calls, so that their reverts can be caught.

    function decode(bytes calldata answer) external pure returns (SegmentationAnswer.Decoded memory) {
        return SegmentationAnswer.decode(answer);
    }

    function count(bytes calldata answer, uint16 classIndex, uint16 minScoreBps) external pure returns (uint256) {
        return SegmentationAnswer.count(answer, classIndex, minScoreBps);
    }

    function at(bytes calldata answer, uint256 i) external pure returns (SegmentationAnswer.Instance memory) {
        return SegmentationAnswer.at(answer, i);
    }

    /// @dev Fails unless all three ways to read an answer refuse it.
    function expectBad(bytes memory answer, bytes memory wrong) private {
        vm.expectRevert(wrong);
        this.decode(answer);
        vm.expectRevert(wrong);
        this.count(answer, 16, 0);
        vm.expectRevert(wrong);
        this.at(answer, 0);
    }

    function expectBadBox(bytes memory answer, uint16 y1, uint16 x1, uint16 y2, uint16 x2) private {
        bytes memory wrong = abi.encodeWithSelector(SegmentationAnswer.BoxWrong.selector, 0, y1, x1, y2, x2);
        vm.expectRevert(wrong);
        this.decode(answer);
        vm.expectRevert(wrong);
        this.at(answer, 0);
    }

    function assertInstance(SegmentationAnswer.Instance memory instance, SegmentationAnswer.Instance memory expected)
        private
        pure
    {
        vm.assertEq(abi.encode(instance), abi.encode(expected));
    }

    /// @dev A copy with two bytes changed.
    function changed(bytes memory answer, uint256 offset, bytes2 value) private pure returns (bytes memory copy) {
        copy = bytes.concat(answer);
        copy[offset] = value[0];
        copy[offset + 1] = value[1];
    }

    /// @dev A good answer; few classes and scores, so that some of them are equal.
    function random(uint8 familiarity, uint256 listed, uint16 more, uint256 seed)
        private
        pure
        returns (SegmentationAnswer.Decoded memory made)
    {
        made.familiarity = familiarity;
        made.found = uint16(listed + bound(more, 0, 65_535 - listed));
        made.width = uint16(bound(seed >> 32, 1, 65_535));
        made.height = uint16(bound(seed >> 64, 1, 65_535));
        made.instances = new SegmentationAnswer.Instance[](listed);
        uint256 ceiling = 10_000;
        for (uint256 i = 0; i < listed; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            ceiling = seed % 3 == 0 ? ceiling : bound(seed >> 8, 0, ceiling);
            SegmentationAnswer.Instance memory instance = made.instances[i];
            instance.classIndex = uint16(seed >> 24) % 4;
            instance.scoreBps = uint16(ceiling);
            instance.y1 = uint16(bound(seed >> 40, 0, made.height - 1));
            instance.x1 = uint16(bound(seed >> 72, 0, made.width - 1));
            instance.y2 = uint16(bound(seed >> 104, instance.y1 + 1, made.height));
            instance.x2 = uint16(bound(seed >> 136, instance.x1 + 1, made.width));
            uint256 boxArea = uint256(instance.y2 - instance.y1) * (instance.x2 - instance.x1);
            instance.area = uint32(bound(seed >> 168, 0, boxArea));
        }
    }

    function encode(SegmentationAnswer.Decoded memory made) private pure returns (bytes memory answer) {
        answer = abi.encodePacked(
            uint8(1),
            uint8(2),
            uint8(made.instances.length),
            made.familiarity,
            made.found,
            made.width,
            made.height,
            bytes22(0)
        );
        for (uint256 i = 0; i < made.instances.length; ++i) {
            SegmentationAnswer.Instance memory each = made.instances[i];
            answer =
                abi.encodePacked(answer, each.classIndex, each.scoreBps, each.y1, each.x1, each.y2, each.x2, each.area);
        }
    }
}
