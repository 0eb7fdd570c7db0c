// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IInferenceConsumer} from "./interfaces/IInferenceConsumer.sol";
import {IInferenceCoordinator} from "./interfaces/IInferenceCoordinator.sol";

/// @title InferenceConsumer
/// @notice Base of a contract that asks and is called back. Inherit it, call `_request`, implement `_onAnswer`.
/// @dev Only the coordinator may call back, and only for a request that this contract made and that was not answered
/// yet. Keep `_onAnswer` inside the callback gas you ask for; when it reverts, the answer stands at the coordinator and
/// `retryCallback` delivers it later. Ether comes back to this contract when a request fails or is refunded; what
/// becomes of it is yours to say.
abstract contract InferenceConsumer is IInferenceConsumer {
    /// @notice The coordinator that this contract asks.
    IInferenceCoordinator public immutable coordinator;

    /// @dev Requests that this contract made and that were not answered yet.
    mapping(bytes32 requestId => bool open) private _open;

    /// @notice Only the coordinator may call back.
    error NotCoordinator(address caller);
    /// @notice This contract has no open request with this id.
    error UnknownRequest(bytes32 requestId);
    /// @notice This contract holds less ether than the request costs, in wei.
    error BalanceTooLow(uint256 balance, uint256 required);

    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) {
        coordinator = coordinator_;
    }

    /// @notice Takes refunds, and ether that pays for requests.
    receive() external payable virtual {}

    /// @inheritdoc IInferenceConsumer
    function fulfillInference(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) external {
        if (msg.sender != address(coordinator)) revert NotCoordinator(msg.sender);
        if (!_open[requestId]) revert UnknownRequest(requestId);
        delete _open[requestId];
        _onAnswer(requestId, resultCid, answer);
    }

    /// @notice Whether this contract made a request that was not answered yet.
    /// @param requestId Request to look for.
    /// @return True while an answer would be accepted.
    function isOpen(bytes32 requestId) public view returns (bool) {
        return _open[requestId];
    }

    /// @dev Asks for a prediction and pays the exact price out of this contract's balance, in which the value of the
    /// current call is contained.
    /// @param modelId Model to ask.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Gas that `_onAnswer` needs, with some 10,000 for what is around it.
    /// @param deadline Last second, Unix time, for the answer.
    /// @return requestId Id of the request.
    /// @return payment Wei paid.
    function _request(uint256 modelId, bytes memory imageCid, uint256 callbackGas, uint256 deadline)
        internal
        returns (bytes32 requestId, uint256 payment)
    {
        payment = coordinator.quote(modelId, callbackGas);
        if (address(this).balance < payment) revert BalanceTooLow(address(this).balance, payment);
        requestId = coordinator.request{value: payment}(modelId, imageCid, callbackGas, deadline);
        _open[requestId] = true;
    }

    /// @dev Called once for each answered request.
    /// @param requestId Request that is answered.
    /// @param resultCid CID of the full result.
    /// @param answer Compact answer; see `ClassificationAnswer`.
    function _onAnswer(bytes32 requestId, bytes calldata resultCid, bytes calldata answer) internal virtual;
}
