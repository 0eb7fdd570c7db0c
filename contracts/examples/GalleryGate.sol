// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Cid} from "../Cid.sol";
import {InferenceConsumer} from "../InferenceConsumer.sol";
import {SegmentationAnswer} from "../SegmentationAnswer.sol";
import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";

/// @title GalleryGate
/// @notice Example: a gallery that lets a picture in when enough of what it collects is in it, say three cats, each
/// with a score of at least 0.9.
/// @dev A picture is its CID. Whoever submits one pays for the look at it, whether it is let in or not, and gets the
/// payment back through `reclaim` when nobody could look.
contract GalleryGate is InferenceConsumer {
    using Cid for bytes;

    /// @notice Gas asked for each callback; letting a picture in takes about 70,000 when its answer is the longest.
    uint256 public constant CALLBACK_GAS = 110_000;

    /// @notice Instance segmentation model that is asked.
    uint256 public immutable modelId;
    /// @notice Class that the gallery collects.
    uint16 public immutable classIndex;
    /// @notice Lowest score, in basis points, of an instance that counts.
    uint16 public immutable minScoreBps;
    /// @notice Number of instances that a picture must show.
    uint256 public immutable minCount;

    /// @notice Number of pictures in the gallery.
    uint256 public size;

    mapping(bytes32 picture => bool inside) private _inside;
    mapping(bytes32 requestId => bytes32 picture) private _pictureOf;

    /// @notice A picture was let in; `count` instances were counted. The coordinator's event has its CID.
    event PictureAdmitted(bytes32 indexed requestId, uint256 count);
    /// @notice A picture was turned away.
    event PictureTurnedAway(bytes32 indexed requestId, uint256 count);

    /// @notice An answer lists 1 to `maximum` instances, so no other number can be asked for.
    error CountOutOfRange(uint256 count, uint256 maximum);
    /// @notice A score has at most 10,000 basis points.
    error ScoreOutOfRange(uint16 scoreBps, uint16 maximum);
    /// @notice The picture is in the gallery already.
    error AlreadyAdmitted(bytes imageCid);

    /// @param coordinator_ Coordinator to ask.
    /// @param modelId_ Instance segmentation model to ask.
    /// @param classIndex_ Class to collect.
    /// @param minScoreBps_ Lowest score that counts, in basis points.
    /// @param minCount_ Number of instances that a picture must show.
    constructor(
        IInferenceCoordinator coordinator_,
        uint256 modelId_,
        uint16 classIndex_,
        uint16 minScoreBps_,
        uint256 minCount_
    ) InferenceConsumer(coordinator_) {
        if (minCount_ == 0 || minCount_ > SegmentationAnswer.MAX_INSTANCES) {
            revert CountOutOfRange(minCount_, SegmentationAnswer.MAX_INSTANCES);
        }
        if (minScoreBps_ > SegmentationAnswer.FULL_SCORE) {
            revert ScoreOutOfRange(minScoreBps_, SegmentationAnswer.FULL_SCORE);
        }
        modelId = modelId_;
        classIndex = classIndex_;
        minScoreBps = minScoreBps_;
        minCount = minCount_;
    }

    /// @notice Has a picture looked at. Send at least `price()`; what is left over comes back.
    /// @param imageCid CID of the picture.
    /// @param deadline Last second, Unix time, for the answer.
    /// @return requestId Id of the request.
    function submit(bytes calldata imageCid, uint256 deadline) external payable returns (bytes32 requestId) {
        if (isInside(imageCid)) revert AlreadyAdmitted(imageCid);
        uint256 rest;
        (requestId, rest) = _requestForSender(modelId, imageCid, CALLBACK_GAS, deadline);
        _pictureOf[requestId] = imageCid.digestOf();
        _pay(msg.sender, rest);
    }

    /// @notice What `submit` costs now, in wei.
    /// @return Wei to send.
    function price() external view returns (uint256) {
        return coordinator.quote(modelId, CALLBACK_GAS);
    }

    /// @notice Whether a picture is in the gallery.
    /// @param imageCid CID of the picture.
    /// @return True once it was let in.
    function isInside(bytes calldata imageCid) public view returns (bool) {
        // By digest, since one block has a CID in more than one form.
        return imageCid.formOf() != Cid.Form.None && _inside[imageCid.digestOf()];
    }

    /// @inheritdoc InferenceConsumer
    function _onAnswer(bytes32 requestId, bytes calldata, bytes calldata answer) internal override {
        uint256 count = SegmentationAnswer.count(answer, classIndex, minScoreBps);
        bytes32 picture = _pictureOf[requestId];
        delete _pictureOf[requestId];
        if (count < minCount) {
            emit PictureTurnedAway(requestId, count);
            return;
        }
        // Two people may have submitted the same picture at the same time
        if (!_inside[picture]) ++size;
        _inside[picture] = true;
        emit PictureAdmitted(requestId, count);
    }

    /// @inheritdoc InferenceConsumer
    function _onReturn(bytes32 requestId) internal override {
        delete _pictureOf[requestId];
    }
}
