// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ClassificationAnswer} from "../ClassificationAnswer.sol";
import {InferenceConsumer} from "../InferenceConsumer.sol";
import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";

/// @title DigitReader
/// @notice Example: reads handwritten digits and keeps what it read in its storage.
contract DigitReader is InferenceConsumer {
    /// @dev What an answered request gave.
    struct Reading {
        bool answered;
        uint8 digit;
        uint16 confidenceBps;
        bytes resultCid;
    }

    /// @notice Gas asked for each callback; storing a reading takes about 120,000.
    uint256 public constant CALLBACK_GAS = 200_000;

    /// @notice Model that is asked; its ten classes are the digits.
    uint256 public immutable modelId;

    /// @notice The request that was answered last; zero before the first.
    bytes32 public latestRequestId;

    mapping(bytes32 requestId => Reading reading) private _readings;

    /// @notice A digit was read.
    event DigitRead(bytes32 indexed requestId, uint8 digit, uint16 confidenceBps);

    /// @notice The model named a class that is no digit.
    error NotADigit(uint16 classIndex);
    /// @notice Nothing was read yet.
    error NothingRead();

    /// @param coordinator_ Coordinator to ask.
    /// @param modelId_ Digit model to ask.
    constructor(IInferenceCoordinator coordinator_, uint256 modelId_) InferenceConsumer(coordinator_) {
        modelId = modelId_;
    }

    /// @notice Asks which digit a picture shows. Send at least `price()`; what is left over comes back.
    /// @param imageCid CID of the picture.
    /// @param deadline Last second, Unix time, for the answer.
    /// @return requestId Id of the request.
    function ask(bytes calldata imageCid, uint256 deadline) external payable returns (bytes32 requestId) {
        uint256 rest;
        (requestId, rest) = _requestForSender(modelId, imageCid, CALLBACK_GAS, deadline);
        _pay(msg.sender, rest);
    }

    /// @notice What a request gave.
    /// @param requestId Request to read.
    /// @return answered Whether its answer is here; the rest is zero until then.
    /// @return digit The digit.
    /// @return confidenceBps The model's confidence in basis points.
    function readings(bytes32 requestId) external view returns (bool answered, uint8 digit, uint16 confidenceBps) {
        Reading storage reading = _readings[requestId];
        return (reading.answered, reading.digit, reading.confidenceBps);
    }

    /// @notice CID of the full result of a request; empty until it is answered.
    /// @param requestId Request to read.
    /// @return The CID in bytes.
    function resultCidOf(bytes32 requestId) external view returns (bytes memory) {
        return _readings[requestId].resultCid;
    }

    /// @notice The digit that was read last. Reverts with `NothingRead` before the first.
    /// @return The digit.
    function latestDigit() external view returns (uint8) {
        if (latestRequestId == bytes32(0)) revert NothingRead();
        return _readings[latestRequestId].digit;
    }

    /// @notice What `ask` costs now, in wei.
    /// @return Wei to send.
    function price() public view returns (uint256) {
        return coordinator.quote(modelId, CALLBACK_GAS);
    }

    /// @inheritdoc InferenceConsumer
    function _onAnswer(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) internal override {
        (uint16 classIndex, uint16 confidenceBps) = ClassificationAnswer.top(answer);
        if (classIndex > 9) revert NotADigit(classIndex);
        // Fits: at most 9
        uint8 digit = uint8(classIndex);

        Reading storage reading = _readings[requestId];
        reading.answered = true;
        reading.digit = digit;
        reading.confidenceBps = confidenceBps;
        reading.resultCid = resultCid;
        latestRequestId = requestId;
        emit DigitRead(requestId, digit, confidenceBps);
    }
}
