// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceCoordinator} from "../../../contracts/InferenceCoordinator.sol";
import {TestBase} from "../base/Vm.sol";
import {Handler} from "./Handler.sol";

contract SolvencyTest is TestBase {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    InferenceCoordinator private coordinator;
    Handler private handler;

    function setUp() external {
        vm.warp(1_900_000_000);
        address owner = makeAccount("owner");
        coordinator = new InferenceCoordinator(owner);
        handler = new Handler(coordinator, owner);
        address[] memory operators = handler.operators();
        for (uint256 i = 0; i < operators.length; ++i) {
            vm.prank(owner);
            coordinator.setOperator(operators[i], true);
        }
    }

    /// @dev What forge asks for: the contract it plays with, and how often each call comes.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](9);
        selectors[0] = Handler.request.selector;
        selectors[1] = Handler.request.selector;
        selectors[2] = Handler.request.selector;
        selectors[3] = Handler.report.selector;
        selectors[4] = Handler.report.selector;
        selectors[5] = Handler.refund.selector;
        selectors[6] = Handler.withdraw.selector;
        selectors[7] = Handler.passTime.selector;
        selectors[8] = Handler.changeSettings.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), selectors);
    }

    /// @notice The balance is the escrow and the credits, and what came in less what went out, to the wei; every
    /// request stands where the handler's own books say; re-entry never got through.
    function invariant_Solvency() external view {
        uint256 balance = address(coordinator).balance;
        vm.assertEq(balance, handler.escrow() + handler.credits(), "escrow and credits");
        vm.assertEq(balance, handler.paidIn() - handler.paidOut(), "paid in and out");
        vm.assertEq(handler.differences(), 0, "books");
    }
}
