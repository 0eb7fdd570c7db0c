// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceConsumer} from "../../../contracts/interfaces/IInferenceConsumer.sol";

/// @notice A hostile account with code: it does what it is told, refuses ether when it is told to, and makes a prepared
/// call whenever it is sent ether or called back.
contract Puppet is IInferenceConsumer {
    bool public refuses;
    uint256 public tries;
    uint256 public breaches;
    address private _target;
    bytes private _attack;

    receive() external payable {
        require(!refuses);
        strike();
    }

    function setRefuses(bool refuses_) external {
        refuses = refuses_;
    }

    function prepare(address target, bytes calldata attack) external {
        _target = target;
        _attack = attack;
    }

    function act(address target, uint256 value, bytes calldata data) external returns (bytes memory result) {
        bool success;
        (success, result) = target.call{value: value}(data);
        require(success);
    }

    function fulfillInference(bytes32, bytes calldata, bytes calldata) external {
        strike();
    }

    function strike() private {
        if (_target == address(0)) return;
        ++tries;
        (bool success,) = _target.call(_attack);
        if (success) ++breaches;
    }
}
