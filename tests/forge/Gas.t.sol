// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {EmptyConsumer} from "../../contracts/mocks/EmptyConsumer.sol";
import {PlainToken} from "../../contracts/mocks/PlainToken.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";

/// @notice Gas of whole transactions, what the transaction itself costs included. `make bench-gas` prints the figures.
/// forge-config: default.isolate = true
contract GasTest is CoordinatorTest {
    EmptyConsumer private consumer;
    PlainToken private token;
    uint256 private tokenModel;

    function setUp() public override {
        super.setUp();
        consumer = new EmptyConsumer(coordinator);
        token = new PlainToken(18);
        tokenModel = publish(1 ether, address(token));
        token.mint(person, 1000 ether);
        vm.startPrank(person);
        token.approve(address(coordinator), 500 ether);
        coordinator.depositToken(address(token), 100 ether);
        coordinator.deposit{value: 1 ether}();
        vm.stopPrank();
        // Warm: nonce, balances and earnings are not zero any more.
        reportOne(success(ask()));
        reportOne(success(askFrom(consumer, 10_000)));
        reportOne(failure(ask()));
        reportOne(success(askWithToken()));
    }

    function test_RequestFromAWallet() external {
        ask();
        check("request_wallet", 1, 60_000);
    }

    function test_RequestFromAContract() external {
        uint256 payment = coordinator.quote(modelId, 10_000);
        bytes memory image = cid("picture");
        vm.prank(person);
        consumer.ask{value: payment}(modelId, image, 10_000, NOW + 1 hours);
        check("request_contract", 1, 72_000);
    }

    function test_RequestFromABalance() external {
        vm.prank(person);
        coordinator.requestFromBalance(modelId, cid("picture"), 0, NOW + 1 hours, PRICE);
        check("request_balance", 1, 66_500);
    }

    function test_RequestWithAToken() external {
        askWithToken();
        check("request_token", 1, 84_500);
    }

    function test_SixteenRequestsAtOnce() external {
        bytes[] memory images = new bytes[](16);
        for (uint256 i = 0; i < images.length; ++i) {
            images[i] = cid(vm.toString(i));
        }
        vm.prank(person);
        coordinator.requestMany{value: 16 * PRICE}(modelId, images, 0, NOW + 1 hours);
        check("request_many_16_each", 16, 31_500);
    }

    function test_OneAnswer() external {
        reportOne(success(ask()));
        check("fulfil_one_none", 1, 48_500);
    }

    function test_OneAnswerWithCallback() external {
        reportOne(success(askFrom(consumer, 10_000)));
        check("fulfil_one_empty", 1, 52_000);
    }

    function test_OneAnswerPaidInAToken() external {
        reportOne(success(askWithToken()));
        check("fulfil_one_token", 1, 55_500);
    }

    function test_SixteenAnswers() external {
        IInferenceCoordinator.Fulfilment[] memory items = sixteen(false);
        vm.prank(operator);
        coordinator.report(items);
        check("fulfil_16_none_each", 16, 16_000);
    }

    function test_SixteenAnswersWithCallbacks() external {
        IInferenceCoordinator.Fulfilment[] memory items = sixteen(true);
        vm.prank(operator);
        coordinator.report(items);
        check("fulfil_16_empty_each", 16, 18_500);
    }

    function test_SignedByOneTwoAndThree() external {
        for (uint256 k = 1; k <= 3; ++k) {
            address[] memory signers = new address[](3);
            for (uint256 i = 0; i < 3; ++i) {
                signers[i] = makeAccount(string.concat("signer ", vm.toString(i)));
            }
            signers = rising(signers);
            coordinator = deployCoordinator(owner, signers, k, CANCEL_WINDOW);
            modelId = publish(PRICE, ETHER);
            address[] memory chosen = new address[](k);
            for (uint256 i = 0; i < k; ++i) {
                chosen[i] = signers[i];
            }
            // Warm, as above.
            reportSigned(one(success(ask())), chosen);
            reportSigned(sixteen(false), chosen);
            check(string.concat("fulfil_16_none_signed_by_", vm.toString(k), "_each"), 16, 15_400 + 450 * k);
        }
    }

    function test_Refund() external {
        bytes32 requestId = ask();
        vm.warp(NOW + 2 hours);
        coordinator.refund(requestId);
        check("refund", 1, 42_000);
    }

    function test_Cancel() external {
        IInferenceCoordinator.RequestTerms memory terms = termsOf(coordinator.nextNonce(), 0);
        ask();
        vm.prank(person);
        coordinator.cancel(terms);
        check("cancel", 1, 42_000);
    }

    function askWithToken() private returns (bytes32) {
        vm.prank(person);
        return coordinator.requestWithToken(tokenModel, cid("picture"), 0, NOW + 1 hours, 1 ether);
    }

    function reportSigned(IInferenceCoordinator.Fulfilment[] memory items, address[] memory signers) private {
        IInferenceCoordinator.Signature[] memory signatures =
            signaturesOf(signers, coordinator.reportDigest(abi.encode(items), signers[0]));
        vm.prank(signers[0]);
        coordinator.reportSigned(abi.encode(items), signers[0], signatures);
    }

    function sixteen(bool withCallback) private returns (IInferenceCoordinator.Fulfilment[] memory items) {
        items = new IInferenceCoordinator.Fulfilment[](16);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = success(withCallback ? askFrom(consumer, 10_000) : ask());
        }
    }

    function check(string memory what, uint256 count, uint256 most) private {
        uint256 each = vm.lastCallGas().gasTotalUsed / count;
        emit log_named_uint(what, each);
        vm.assertGe(each, 10_000);
        vm.assertLe(each, most, what);
    }
}
