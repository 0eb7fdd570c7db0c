// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title ClassificationAnswer
/// @notice Decodes the compact answer of a classifier, one 32-byte word:
///
///     byte 0      version, 1
///     byte 1      kind, 1 for a classification
///     byte 2      number of classes, 1 to 7
///     byte 3      familiarity: how close the picture is to what the model was trained on, 1 to 255; 0 if not measured
///     bytes 4..   for each class, in order of falling confidence: class index (2 bytes), confidence in basis points
///                 (2 bytes, 0 to 10,000); the rest is zero
///
/// @dev Numbers are big-endian. The word equals its own ABI encoding as `bytes32`.
library ClassificationAnswer {
    /// @notice A whole answer; the two arrays run side by side.
    /// @param familiarity 1 to 255, or 0 when it was not measured.
    /// @param classes Class indices by falling confidence.
    /// @param confidences Their confidences in basis points.
    struct Decoded {
        uint8 familiarity;
        uint16[] classes;
        uint16[] confidences;
    }

    /// @notice Version that this library reads.
    uint8 internal constant VERSION = 1;
    /// @notice Kind of a classification.
    uint8 internal constant KIND = 1;
    /// @notice Most classes in one answer.
    uint8 internal constant MAX_CLASSES = 7;
    /// @notice Length of an answer in bytes.
    uint256 internal constant LENGTH = 32;
    /// @notice A confidence of one, in basis points.
    uint16 internal constant FULL_CONFIDENCE = 10_000;

    /// @notice The answer has another length than 32 bytes.
    error AnswerLengthWrong(uint256 length);
    /// @notice The answer has another version or is of another kind.
    error AnswerNotClassification(uint8 version, uint8 kind);
    /// @notice The number of classes is zero or above seven.
    error ClassCountWrong(uint8 count);
    /// @notice A confidence is above 10,000 basis points or above the one before it.
    error ConfidenceWrong(uint256 entry, uint16 confidenceBps);
    /// @notice There are bytes after the last class that are not zero.
    error TrailingBytes();

    /// @notice Decodes and checks a whole answer. Reverts with one of the errors above.
    /// @param answer Answer as the coordinator delivers it.
    /// @return decoded Its classes and confidences.
    function decode(bytes memory answer) internal pure returns (Decoded memory decoded) {
        (uint256 word, uint256 count) = _open(answer);
        decoded.familiarity = uint8(word >> 224);
        decoded.classes = new uint16[](count);
        decoded.confidences = new uint16[](count);
        uint16 previous = FULL_CONFIDENCE;
        for (uint256 i = 0; i < count; ++i) {
            (uint16 classIndex, uint16 confidence) = _entry(word, i);
            if (confidence > previous) revert ConfidenceWrong(i, confidence);
            previous = confidence;
            decoded.classes[i] = classIndex;
            decoded.confidences[i] = confidence;
        }
        if (word << (32 + 32 * count) != 0) revert TrailingBytes();
    }

    /// @notice The first class alone, which costs less; what follows it is not checked.
    /// @param answer Answer as the coordinator delivers it.
    /// @return classIndex Index of the most likely class.
    /// @return confidenceBps Its confidence in basis points.
    function top(bytes memory answer) internal pure returns (uint16 classIndex, uint16 confidenceBps) {
        (uint256 word,) = _open(answer);
        (classIndex, confidenceBps) = _entry(word, 0);
        if (confidenceBps > FULL_CONFIDENCE) revert ConfidenceWrong(0, confidenceBps);
    }

    /// @dev The word of an answer and its number of classes, once its head is found good.
    function _open(bytes memory answer) private pure returns (uint256 word, uint256 count) {
        if (answer.length != LENGTH) revert AnswerLengthWrong(answer.length);
        word = uint256(bytes32(answer));
        uint8 version = uint8(word >> 248);
        uint8 kind = uint8(word >> 240);
        if (version != VERSION || kind != KIND) revert AnswerNotClassification(version, kind);
        count = uint8(word >> 232);
        // Fits: cut to eight bits on the line above
        if (count == 0 || count > MAX_CLASSES) revert ClassCountWrong(uint8(count));
    }

    /// @dev Entry `i` of an answer's word.
    function _entry(uint256 word, uint256 i) private pure returns (uint16 classIndex, uint16 confidence) {
        uint256 shift = 192 - 32 * i;
        classIndex = uint16(word >> (shift + 16));
        confidence = uint16(word >> shift);
    }
}
