// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceConsumer} from "../../../contracts/InferenceConsumer.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {CoordinatorTest} from "../base/CoordinatorTest.sol";
import {Puppet} from "./Puppet.sol";

/// @notice Makes the storage of an account cold again, as it is in the transaction of a report.
interface Cooling {
    function cool(address account) external;
}

/// @notice What the tests of the example contracts share.
abstract contract ExampleTest is CoordinatorTest {
    Puppet internal puppet;

    function setUp() public virtual override {
        super.setUp();
        puppet = new Puppet();
        vm.deal(address(puppet), 100 ether);
    }

    /// @dev Id of the request that was made last.
    function lastRequest(InferenceConsumer consumer, bytes memory imageCid, uint256 callbackGas, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        return coordinator.requestIdOf(
            address(consumer),
            IInferenceCoordinator.RequestTerms({
                nonce: coordinator.nextNonce() - 1,
                modelId: modelId,
                imageCid: imageCid,
                payment: coordinator.quote(modelId, callbackGas),
                callbackGas: callbackGas,
                deadline: deadline,
                createdAt: block.timestamp
            })
        );
    }

    function answered(bytes32 requestId, bytes memory answer)
        internal
        pure
        returns (IInferenceCoordinator.Fulfilment memory item)
    {
        item = success(requestId);
        item.answer = answer;
    }

    function two(IInferenceCoordinator.Fulfilment memory first, IInferenceCoordinator.Fulfilment memory second)
        internal
        pure
        returns (IInferenceCoordinator.Fulfilment[] memory items)
    {
        items = new IInferenceCoordinator.Fulfilment[](2);
        (items[0], items[1]) = (first, second);
    }

    /// @dev Asks the coordinator for the puppet itself, so that its callback comes in a report.
    function askForPuppet() internal returns (bytes32) {
        uint256 payment = coordinator.quote(modelId, 500_000);
        bytes memory data = abi.encodeCall(
            IInferenceCoordinator.request, (modelId, cid("picture"), 500_000, block.timestamp + 1 hours)
        );
        return abi.decode(puppet.act(address(coordinator), payment, data), (bytes32));
    }

    /// @dev Calls back as the coordinator would, on cold storage, and holds that a tenth of the gas is left.
    function assertFits(InferenceConsumer consumer, uint256 callbackGas, bytes32 requestId, bytes memory answer)
        internal
    {
        Cooling(address(vm)).cool(address(consumer));
        vm.prank(address(coordinator));
        uint256 before = gasleft();
        consumer.fulfillInference(requestId, cid("result"), answer);
        uint256 used = before - gasleft();
        emit log_named_uint("callback", used);
        vm.assertLe(used, callbackGas * 9 / 10, "callback gas");
    }
}
