// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Deployer} from "../base/Deployer.sol";
import {Handler} from "./Handler.sol";

/// @dev The handler makes its own choices out of one number, so the fuzzer need not gather values.
/// forge-config: default.invariant.dictionary-weight = 0
/// forge-config: default.invariant.include-storage = false
/// forge-config: default.invariant.include-push-bytes = false
/// forge-config: default.invariant.show-metrics = false
contract SolvencyTest is Deployer {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Handler private handler;

    function setUp() external {
        vm.warp(1_900_000_000);
        address owner = makeAccount("owner");
        address[] memory candidates = new address[](3);
        for (uint256 i = 0; i < candidates.length; ++i) {
            candidates[i] = makeAccount(string(abi.encodePacked("operator ", bytes1(uint8(0x61 + i)))));
        }
        _sort(candidates);
        address[] memory operators = new address[](2);
        (operators[0], operators[1]) = (candidates[0], candidates[1]);
        handler = new Handler(deployCoordinator(owner, operators, 1, 5 minutes), owner, candidates);
        handler.begin();
    }

    /// @dev What forge asks for: the contract it plays with, and how often each call comes.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](22);
        selectors[0] = Handler.ask.selector;
        selectors[1] = Handler.ask.selector;
        selectors[2] = Handler.ask.selector;
        selectors[3] = Handler.ask.selector;
        selectors[4] = Handler.report.selector;
        selectors[5] = Handler.report.selector;
        selectors[6] = Handler.reportSigned.selector;
        selectors[7] = Handler.reportSigned.selector;
        selectors[8] = Handler.cancel.selector;
        selectors[9] = Handler.refund.selector;
        selectors[10] = Handler.refund.selector;
        selectors[11] = Handler.retryCallback.selector;
        selectors[12] = Handler.deposit.selector;
        selectors[13] = Handler.withdraw.selector;
        selectors[14] = Handler.withdrawEarnings.selector;
        selectors[15] = Handler.forceMoney.selector;
        selectors[16] = Handler.changeSettings.selector;
        selectors[17] = Handler.changeOperators.selector;
        selectors[18] = Handler.changeModel.selector;
        selectors[19] = Handler.publish.selector;
        selectors[20] = Handler.turnHostile.selector;
        selectors[21] = Handler.passTime.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), selectors);
    }

    /// @notice Given any calls by anybody, then for every token the coordinator holds what it owes, to the smallest
    /// part, each request stands where the books say, and nothing got in through the back door.
    function invariant_HoldsWhatItOwes() external view {
        handler.checkMoney();
        handler.checkTouched();
        vm.assertEq(handler.breaches(), 0, "re-entered");
    }

    /// @notice At the end of a run every account and every request is compared, and some that are pending are answered and
    /// refunded for trial. A difference stays in the books, so it is found then as well as at once.
    function afterInvariant() external {
        handler.checkAccounts();
        handler.checkRequests();
        for (uint256 i = 0; i < 4; ++i) {
            handler.probe(i);
        }
    }

    function _sort(address[] memory accounts) private pure {
        for (uint256 i = 1; i < accounts.length; ++i) {
            for (uint256 j = i; j > 0 && accounts[j] < accounts[j - 1]; --j) {
                (accounts[j], accounts[j - 1]) = (accounts[j - 1], accounts[j]);
            }
        }
    }
}
