// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title SegmentationAnswer
/// @notice Decodes the compact answer of an instance segmentation: a head of 32 bytes and 16 bytes for each instance
/// that is listed, 528 bytes at most.
///
///     byte 0      version, 1
///     byte 1      kind, 2 for an instance segmentation
///     byte 2      number of instances listed, 0 to 31
///     byte 3      familiarity: how close the picture is to what the model was trained on, 1 to 255; 0 if not measured
///     bytes 4..   number of instances found, at least those listed (2 bytes)
///     bytes 6..   width, then height of the picture in pixels, each at least 1 (2 bytes each)
///     bytes 10..  zero, up to byte 31
///
/// and for each instance, in order of falling score:
///
///     byte 0      class index (2 bytes)
///     byte 2      score in basis points, 0 to 10,000 (2 bytes)
///     byte 4      box in pixels: y1, x1, y2, x2 (2 bytes each); y1 < y2 <= height and x1 < x2 <= width; row y2 and
///                 column x2 are the first ones outside
///     byte 12     area of the mask in pixels, at most that of the box (4 bytes)
///
/// @dev Numbers are big-endian, and the answer ends with its last instance. Those that are listed have the highest
/// scores of all that were found.
library SegmentationAnswer {
    /// @notice One instance.
    /// @param classIndex Index of its class.
    /// @param scoreBps Its score in basis points.
    /// @param y1 First row of its box.
    /// @param x1 First column of its box.
    /// @param y2 First row below its box.
    /// @param x2 First column to the right of its box.
    /// @param area Pixels of its mask.
    struct Instance {
        uint16 classIndex;
        uint16 scoreBps;
        uint16 y1;
        uint16 x1;
        uint16 y2;
        uint16 x2;
        uint32 area;
    }

    /// @notice A whole answer.
    /// @param familiarity 1 to 255, or 0 when it was not measured.
    /// @param found Number of instances found.
    /// @param width Width of the picture in pixels.
    /// @param height Height of the picture in pixels.
    /// @param instances Instances listed, by falling score.
    struct Decoded {
        uint8 familiarity;
        uint16 found;
        uint16 width;
        uint16 height;
        Instance[] instances;
    }

    /// @dev What the head says, and how many instances follow it.
    struct Head {
        uint8 listed;
        uint8 familiarity;
        uint16 found;
        uint16 width;
        uint16 height;
    }

    /// @notice Version that this library reads.
    uint8 internal constant VERSION = 1;
    /// @notice Kind of an instance segmentation.
    uint8 internal constant KIND = 2;
    /// @notice Most instances in one answer.
    uint8 internal constant MAX_INSTANCES = 31;
    /// @notice Length of the head in bytes.
    uint256 internal constant HEAD_LENGTH = 32;
    /// @notice Length of an instance in bytes.
    uint256 internal constant INSTANCE_LENGTH = 16;
    /// @notice A score of one, in basis points.
    uint16 internal constant FULL_SCORE = 10_000;

    /// @notice The answer has another length than its head asks for, or not even a head.
    error AnswerLengthWrong(uint256 length, uint256 expected);
    /// @notice The answer has another version or is of another kind.
    error AnswerNotSegmentation(uint8 version, uint8 kind);
    /// @notice More instances are listed than 31, or than were found.
    error InstanceCountWrong(uint8 listed, uint16 found);
    /// @notice The picture has no width or no height.
    error ImageSizeWrong(uint16 width, uint16 height);
    /// @notice There are bytes at the end of the head that are not zero.
    error TrailingBytes();
    /// @notice A score is above 10,000 basis points or above the one before it.
    error ScoreWrong(uint256 entry, uint16 scoreBps);
    /// @notice A box is empty or reaches beyond the picture.
    error BoxWrong(uint256 entry, uint16 y1, uint16 x1, uint16 y2, uint16 x2);
    /// @notice A mask is larger than its box.
    error AreaWrong(uint256 entry, uint32 area, uint256 boxArea);
    /// @notice The answer lists fewer instances.
    error NoSuchInstance(uint256 entry, uint8 listed);

    /// @notice Decodes and checks a whole answer. Reverts with one of the errors above.
    /// @param answer Answer as the coordinator delivers it.
    /// @return decoded What it says.
    function decode(bytes memory answer) internal pure returns (Decoded memory decoded) {
        Head memory head = _head(answer);
        decoded.familiarity = head.familiarity;
        decoded.found = head.found;
        decoded.width = head.width;
        decoded.height = head.height;
        decoded.instances = new Instance[](head.listed);
        uint16 previous = FULL_SCORE;
        for (uint256 i = 0; i < head.listed; ++i) {
            decoded.instances[i] = _instance(answer, i, head);
            previous = _checkScore(i, decoded.instances[i].scoreBps, previous);
        }
    }

    /// @notice How many instances of a class have a score, which costs less; boxes and areas are not checked, nor what
    /// has a lower score.
    /// @dev Instances that were found but not listed are not counted: 31 are listed at most.
    /// @param answer Answer as the coordinator delivers it.
    /// @param classIndex Class to count.
    /// @param minScoreBps Lowest score, in basis points, that counts.
    /// @return number Number of instances.
    function count(bytes memory answer, uint16 classIndex, uint16 minScoreBps) internal pure returns (uint256 number) {
        uint256 listed = _head(answer).listed;
        uint16 previous = FULL_SCORE;
        for (uint256 i = 0; i < listed; ++i) {
            uint256 word = _wordAt(answer, HEAD_LENGTH + INSTANCE_LENGTH * i);
            previous = _checkScore(i, uint16(word >> 224), previous);
            if (previous < minScoreBps) break;
            if (uint16(word >> 240) == classIndex) ++number;
        }
    }

    /// @notice One instance alone; the others are not checked, nor their order.
    /// @param answer Answer as the coordinator delivers it.
    /// @param i Its place: 0 for the highest score.
    /// @return instance The instance.
    function at(bytes memory answer, uint256 i) internal pure returns (Instance memory instance) {
        Head memory head = _head(answer);
        if (i >= head.listed) revert NoSuchInstance(i, head.listed);
        instance = _instance(answer, i, head);
        _checkScore(i, instance.scoreBps, FULL_SCORE);
    }

    /// @dev The head of an answer, once it is found good and the length with it.
    function _head(bytes memory answer) private pure returns (Head memory head) {
        if (answer.length < HEAD_LENGTH) revert AnswerLengthWrong(answer.length, HEAD_LENGTH);
        uint256 word = _wordAt(answer, 0);
        uint8 version = uint8(word >> 248);
        uint8 kind = uint8(word >> 240);
        if (version != VERSION || kind != KIND) revert AnswerNotSegmentation(version, kind);
        head.listed = uint8(word >> 232);
        head.familiarity = uint8(word >> 224);
        head.found = uint16(word >> 208);
        head.width = uint16(word >> 192);
        head.height = uint16(word >> 176);
        if (head.listed > MAX_INSTANCES || head.listed > head.found) {
            revert InstanceCountWrong(head.listed, head.found);
        }
        if (head.width == 0 || head.height == 0) revert ImageSizeWrong(head.width, head.height);
        if (word << 80 != 0) revert TrailingBytes();
        uint256 expected = HEAD_LENGTH + INSTANCE_LENGTH * head.listed;
        if (answer.length != expected) revert AnswerLengthWrong(answer.length, expected);
    }

    /// @dev Instance `i` of an answer, once its box and its area are found good.
    function _instance(bytes memory answer, uint256 i, Head memory head)
        private
        pure
        returns (Instance memory instance)
    {
        uint256 word = _wordAt(answer, HEAD_LENGTH + INSTANCE_LENGTH * i);
        instance.classIndex = uint16(word >> 240);
        instance.scoreBps = uint16(word >> 224);
        (instance.y1, instance.x1) = (uint16(word >> 208), uint16(word >> 192));
        (instance.y2, instance.x2) = (uint16(word >> 176), uint16(word >> 160));
        instance.area = uint32(word >> 128);
        uint256 boxArea = _boxArea(i, instance, head);
        if (instance.area > boxArea) revert AreaWrong(i, instance.area, boxArea);
    }

    /// @dev Pixels of a box, once it is found good.
    function _boxArea(uint256 i, Instance memory box, Head memory head) private pure returns (uint256) {
        if (box.y1 >= box.y2 || box.x1 >= box.x2 || box.y2 > head.height || box.x2 > head.width) {
            revert BoxWrong(i, box.y1, box.x1, box.y2, box.x2);
        }
        return uint256(box.y2 - box.y1) * (box.x2 - box.x1);
    }

    /// @dev Reverts unless a score is in range and in order; gives it back.
    function _checkScore(uint256 i, uint16 score, uint16 previous) private pure returns (uint16) {
        if (score > previous) revert ScoreWrong(i, score);
        return score;
    }

    /// @dev The word that begins at a place in an answer. Its second half may lie behind the last instance; nobody
    /// looks.
    function _wordAt(bytes memory answer, uint256 offset) private pure returns (uint256 word) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            word := mload(add(add(answer, 0x20), offset))
        }
    }
}
