// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceConsumer} from "../interfaces/IInferenceConsumer.sol";
import {IInferenceCoordinator} from "../interfaces/IInferenceCoordinator.sol";

/// @title AskingMock
/// @notice Base of the mocks: a contract that asks, without the care that `InferenceConsumer` takes.
abstract contract AskingMock is IInferenceConsumer {
    /// @notice The coordinator that is asked.
    IInferenceCoordinator public immutable coordinator;

    /// @param coordinator_ Coordinator to ask.
    constructor(IInferenceCoordinator coordinator_) {
        coordinator = coordinator_;
    }

    /// @notice Takes ether.
    receive() external payable virtual {}

    /// @notice Asks and passes all the ether on.
    /// @param modelId Model to ask.
    /// @param imageCid CID of the picture.
    /// @param callbackGas Gas for the callback.
    /// @param deadline Deadline in Unix seconds.
    /// @return Id of the request.
    function ask(uint256 modelId, bytes calldata imageCid, uint256 callbackGas, uint256 deadline)
        external
        payable
        returns (bytes32)
    {
        return coordinator.request{value: msg.value}(modelId, imageCid, callbackGas, deadline);
    }

    /// @notice Takes a request back.
    /// @param terms Terms of the request.
    function cancel(IInferenceCoordinator.RequestTerms calldata terms) external {
        coordinator.cancel(terms);
    }

    /// @notice Withdraws all of this contract's ether from its balance.
    /// @param to Account that receives it.
    function withdrawTo(address to) external {
        coordinator.withdraw(address(0), to, coordinator.balanceOf(address(0), address(this)));
    }
}
