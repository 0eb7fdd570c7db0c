// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {TestBase} from "./Vm.sol";

/// @notice The coordinator as a caller sees it: its interface, and what OpenZeppelin's parts add.
interface ICoordinator is IInferenceCoordinator {
    function owner() external view returns (address);
    function pendingOwner() external view returns (address);
    function transferOwnership(address newOwner) external;
    function acceptOwnership() external;
    function renounceOwnership() external;
    function paused() external view returns (bool);
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}

/// @notice Deploys the coordinator by the name of its artifact. A test that imported its source would be compiled
/// through the intermediate representation with it, which takes minutes.
abstract contract Deployer is TestBase {
    function deployCoordinator(address owner_, address[] memory operators, uint256 quorum, uint256 cancelWindow)
        internal
        returns (ICoordinator deployed)
    {
        bytes memory code = abi.encodePacked(
            vm.getCode("InferenceCoordinator.sol:InferenceCoordinator"),
            abi.encode(owner_, operators, quorum, cancelWindow)
        );
        assembly ("memory-safe") {
            deployed := create(0, add(code, 0x20), mload(code))
            if iszero(deployed) {
                let reason := mload(0x40)
                returndatacopy(reason, 0, returndatasize())
                revert(reason, returndatasize())
            }
        }
    }
}
