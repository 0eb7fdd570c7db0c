// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ClassificationAnswer} from "../ClassificationAnswer.sol";
import {InferenceConsumer} from "../InferenceConsumer.sol";
import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";

/// @title DigitReader
/// @notice Example: reads handwritten digits and keeps what it read in its storage.
contract DigitReader is InferenceConsumer {
    /// @dev What is known of a request: who asked and paid, then the digit.
    struct Reading {
        address asker;
        bool answered;
        uint8 digit;
        uint16 confidenceBps;
        bytes resultCid;
    }

    /// @notice Gas asked for each callback; storing a reading takes about 130,000.
    uint256 public constant CALLBACK_GAS = 200_000;

    /// @notice Model that is asked; its ten classes are the digits.
    uint256 public immutable modelId;

    /// @notice The request that was answered last; zero before the first.
    bytes32 public latestRequestId;

    mapping(bytes32 requestId => Reading reading) private _readings;

    /// @notice A digit was read.
    event DigitRead(bytes32 indexed requestId, uint8 digit, uint16 confidenceBps);
    /// @notice The payment of a request that came back, in wei, was handed to its asker.
    event Reclaimed(bytes32 indexed requestId, address indexed asker, uint256 amount);

    /// @notice The model named a class that is no digit.
    error NotADigit(uint16 classIndex);
    /// @notice Nothing was read yet.
    error NothingRead();
    /// @notice The request did not fail, was not asked here, or was reclaimed before.
    error NotReclaimable(bytes32 requestId);
    /// @notice The receiver did not take the ether.
    error PaybackFailed(address to, uint256 amount);

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
        uint256 payment = price();
        if (msg.value < payment) revert IInferenceCoordinator.PaymentTooLow(msg.value, payment);
        (requestId,) = _request(modelId, imageCid, CALLBACK_GAS, deadline);
        _readings[requestId].asker = msg.sender;
        _pay(msg.sender, msg.value - payment);
    }

    /// @notice Hands the payment of a failed or refunded request to the account that asked. Anyone may call.
    /// @param requestId Request whose payment came back.
    function reclaim(bytes32 requestId) external {
        address asker = _readings[requestId].asker;
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        bool cameBack = known.status == IInferenceCoordinator.Status.Failed
            || known.status == IInferenceCoordinator.Status.Refunded;
        if (asker == address(0) || !cameBack) revert NotReclaimable(requestId);
        delete _readings[requestId];
        emit Reclaimed(requestId, asker, known.payment);
        _pay(asker, known.payment);
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

    /// @dev Sends ether, or reverts with `PaybackFailed`; nothing for zero.
    function _pay(address to, uint256 amount) private {
        if (amount == 0) return;
        // The last step of every function that pays, after its state is written.
        // solhint-disable-next-line avoid-low-level-calls
        (bool success,) = to.call{value: amount}("");
        if (!success) revert PaybackFailed(to, amount);
    }
}
