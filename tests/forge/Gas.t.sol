// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EmptyConsumer} from "../../contracts/mocks/EmptyConsumer.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";

/// @notice Gas of whole transactions, what the transaction itself costs included; the figures are printed with -vv.
/// forge-config: default.isolate = true
contract GasTest is CoordinatorTest {
    EmptyConsumer private consumer;

    function setUp() public override {
        super.setUp();
        consumer = new EmptyConsumer(coordinator);
        // Warm: nonce, credits and balances are not zero any more.
        reportOne(success(ask()));
        reportOne(success(askFrom(consumer, 10_000)));
        reportOne(failure(ask()));
    }

    function test_RequestFromAWallet() external {
        ask();
        check("request from a wallet", 1, 61_000);
    }

    function test_RequestFromAContract() external {
        uint256 payment = coordinator.quote(modelId, 10_000);
        bytes memory image = cid("picture");
        vm.prank(person);
        consumer.ask{value: payment}(modelId, image, 10_000, NOW + 1 hours);
        check("request from a contract", 1, 72_000);
    }

    function test_OneAnswer() external {
        reportOne(success(ask()));
        check("one answer, no callback", 1, 55_000);
    }

    function test_OneAnswerWithCallback() external {
        reportOne(success(askFrom(consumer, 10_000)));
        check("one answer, empty callback", 1, 60_000);
    }

    function test_SixteenAnswers() external {
        reportSixteen(false);
        check("sixteen answers, no callback, each", 16, 17_500);
    }

    function test_SixteenAnswersWithCallbacks() external {
        reportSixteen(true);
        check("sixteen answers, empty callbacks, each", 16, 20_500);
    }

    function test_Refund() external {
        bytes32 requestId = ask();
        vm.warp(NOW + 2 hours);
        coordinator.refund(requestId);
        check("refund", 1, 42_000);
    }

    function reportSixteen(bool withCallback) private {
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](16);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = success(withCallback ? askFrom(consumer, 10_000) : ask());
        }
        vm.prank(operator);
        coordinator.report(items);
    }

    function check(string memory what, uint256 count, uint256 most) private {
        uint256 each = vm.lastCallGas().gasTotalUsed / count;
        emit log_named_uint(what, each);
        vm.assertGe(each, 10_000);
        vm.assertLe(each, most, what);
    }
}
