// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {SymbolicTest} from "./SymbolicTest.sol";

/// @notice With a quorum of two.
contract SymbolicQuorum is SymbolicTest {
    function setUp() public override {
        _setUp(2);
    }

    function check_NobodyReportsAlone(address caller, uint256 failure, uint256 digest) external {
        assert(!_call(caller, abi.encodeCall(coordinator.report, (_items(failure, _cid(digest), "")))));
    }

    function check_OneSignatureIsNoQuorum(address operator, bytes32 r, bytes32 vs, uint256 digest) external {
        IInferenceCoordinator.Signature[] memory signatures = new IInferenceCoordinator.Signature[](1);
        signatures[0] = IInferenceCoordinator.Signature(r, vs);
        assert(!_reported(operator, signatures, digest));
    }

    function check_OneSignatureTwiceIsNoQuorum(address operator, bytes32 r, bytes32 vs, uint256 digest) external {
        IInferenceCoordinator.Signature[] memory signatures = new IInferenceCoordinator.Signature[](2);
        signatures[0] = IInferenceCoordinator.Signature(r, vs);
        signatures[1] = IInferenceCoordinator.Signature(r, vs);
        assert(!_reported(operator, signatures, digest));
    }

    function _reported(address operator, IInferenceCoordinator.Signature[] memory signatures, uint256 digest)
        private
        returns (bool)
    {
        bytes memory items = abi.encode(_items(0, _cid(digest), ""));
        return _call(STRANGER, abi.encodeCall(coordinator.reportSigned, (items, operator, signatures)));
    }
}
