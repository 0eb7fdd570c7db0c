// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceCoordinator} from "../../contracts/interfaces/IInferenceCoordinator.sol";
import {FalseReturnToken} from "../../contracts/mocks/FalseReturnToken.sol";
import {FeeOnTransferToken} from "../../contracts/mocks/FeeOnTransferToken.sol";
import {NoReturnToken} from "../../contracts/mocks/NoReturnToken.sol";
import {PlainToken} from "../../contracts/mocks/PlainToken.sol";
import {ReentrantToken} from "../../contracts/mocks/ReentrantToken.sol";
import {RevertingToken} from "../../contracts/mocks/RevertingToken.sol";
import {CoordinatorTest} from "./base/CoordinatorTest.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @notice Answers every call with nothing, and so states no decimals.
contract SilentContract {
    fallback() external payable {}
}

contract TokenTest is CoordinatorTest {
    uint256 private constant TOKEN_PRICE = 2_500_000;

    PlainToken private token;

    function setUp() public override {
        super.setUp();
        token = new PlainToken(6);
        modelId = publish(TOKEN_PRICE, address(token));
        fund(token);
    }

    // Priced in tokens

    function testFuzz_EveryMoneyAddsUp_WhateverTheDecimals(uint8 number, uint64 price, uint24 callbackPrice) external {
        uint8 decimals = uint8(bound(number, 0, 18));
        uint256 unit = decimals > 9 ? 10 ** (decimals - 9) : 1;
        uint256 whole = bound(price, 0, 10 ** 12) * unit;
        uint256 gasPrice = bound(callbackPrice, 1, 10_000_000);
        token = new PlainToken(decimals);
        modelId = publish(whole, address(token));
        vm.prank(owner);
        coordinator.setCallbackPrice(address(token), gasPrice);
        vm.assertEq(coordinator.modelOf(modelId).price, whole);
        vm.assertEq(coordinator.modelOf(modelId).token, address(token));
        uint256 payment = coordinator.quote(modelId, 30_000);
        vm.assertEq(payment, whole + 3 * gasPrice * unit);

        token.mint(person, payment);
        vm.startPrank(person);
        token.approve(address(coordinator), payment);
        bytes32 requestId = coordinator.requestWithToken(modelId, cid("picture"), 30_000, NOW + 1 hours, payment);
        vm.stopPrank();
        vm.assertEq(token.balanceOf(address(coordinator)), payment);
        vm.assertEq(coordinator.requestOf(requestId).payment, payment);
        reportOne(success(requestId));
        vm.assertEq(coordinator.earningsOf(modelId), payment * 3 / 10);
        vm.assertEq(held(operator), payment - payment * 3 / 10);
    }

    function test_GivenAPriceThatIsNoWholeUnitOrTooHigh_ItReverts() external {
        PlainToken fine = new PlainToken(18);
        expectBadPrice(address(fine), 10 ** 9 + 1);
        expectBadPrice(address(fine), 10 ** 21 + 10 ** 9);
        expectBadPrice(address(token), 10 ** 12 + 1);
        vm.prank(owner);
        uint256 published = coordinator.publishModel(cid("m"), 10 ** 21, address(fine), payout);
        vm.assertEq(coordinator.quote(published, 0), 10 ** 21);
        vm.prank(publisher);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PriceNotRepresentable.selector, 10 ** 12 + 1));
        coordinator.setModelPrice(modelId, 10 ** 12 + 1);
    }

    function test_GivenATokenThatCannotBeUsed_ItIsNotPublished() external {
        expectUnsupported(stranger);
        expectUnsupported(address(new PlainToken(19)));
        expectUnsupported(address(coordinator));
        address silent = address(new SilentContract());
        vm.expectRevert();
        vm.prank(owner);
        coordinator.publishModel(cid("m"), 1, silent, payout);
    }

    // Asked and paid

    function test_GivenAnAllowance_ItTakesThePriceAndNoMore() external {
        uint256 before = token.balanceOf(person);
        bytes32 requestId = askInToken(type(uint256).max);
        vm.assertEq(before - token.balanceOf(person), TOKEN_PRICE);
        vm.assertEq(token.balanceOf(address(coordinator)), TOKEN_PRICE);
        IInferenceCoordinator.Request memory known = coordinator.requestOf(requestId);
        vm.assertEq(known.requester, person);
        vm.assertEq(known.payment, TOKEN_PRICE);
        vm.assertEq(requestId, coordinator.requestIdOf(person, termsOf(0, 0)));
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
    }

    function test_GivenNoAllowance_ItReverts() external {
        vm.prank(person);
        token.approve(address(coordinator), TOKEN_PRICE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(coordinator), TOKEN_PRICE - 1, TOKEN_PRICE
            )
        );
        askInToken(TOKEN_PRICE);
    }

    function test_GivenAMaximumBelowThePrice_ItReverts() external {
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, TOKEN_PRICE, TOKEN_PRICE - 1)
        );
        askInToken(TOKEN_PRICE - 1);
        IInferenceCoordinator.Permit memory permit = permitOf(token, TOKEN_PRICE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.PaymentAboveMaximum.selector, TOKEN_PRICE, TOKEN_PRICE - 1)
        );
        askWithPermit(TOKEN_PRICE - 1, permit);
    }

    function test_GivenPaused_ItReverts() external {
        vm.prank(owner);
        coordinator.pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        askInToken(TOKEN_PRICE);
        IInferenceCoordinator.Permit memory permit;
        vm.expectRevert(Pausable.EnforcedPause.selector);
        askWithPermit(TOKEN_PRICE, permit);
    }

    function test_GivenTheWrongCurrency_ItReverts() external {
        bytes[] memory images = new bytes[](1);
        images[0] = cid("picture");
        bytes memory inToken =
            abi.encodeWithSelector(IInferenceCoordinator.ModelPricedInToken.selector, modelId, address(token));
        vm.startPrank(person);
        vm.expectRevert(inToken);
        coordinator.request{value: 1 ether}(modelId, images[0], 0, NOW + 1 hours);
        vm.expectRevert(inToken);
        coordinator.requestMany{value: 1 ether}(modelId, images, 0, NOW + 1 hours);
        IInferenceCoordinator.Permit memory permit;
        bytes memory inEther = abi.encodeWithSelector(IInferenceCoordinator.ModelPricedInEther.selector, 1);
        vm.expectRevert(inEther);
        coordinator.requestWithToken(1, images[0], 0, NOW + 1 hours, PRICE);
        vm.expectRevert(inEther);
        coordinator.requestWithPermit(1, images[0], 0, NOW + 1 hours, PRICE, permit);
        vm.stopPrank();
    }

    function test_GivenAPermit_ItNeedsNoAllowance() external {
        disallow();
        IInferenceCoordinator.Permit memory permit = permitOf(token, TOKEN_PRICE + 7);
        bytes32 requestId = askWithPermit(TOKEN_PRICE + 7, permit);
        assertStatus(requestId, IInferenceCoordinator.Status.Pending);
        vm.assertEq(token.balanceOf(address(coordinator)), TOKEN_PRICE);
        vm.assertEq(token.allowance(person, address(coordinator)), 7);
    }

    function test_GivenAPermitThatSomebodyUsedBefore_ItStillGoesThrough() external {
        disallow();
        IInferenceCoordinator.Permit memory permit = permitOf(token, TOKEN_PRICE);
        vm.prank(stranger);
        token.permit(person, address(coordinator), TOKEN_PRICE, permit.deadline, permit.v, permit.r, permit.s);
        assertStatus(askWithPermit(TOKEN_PRICE, permit), IInferenceCoordinator.Status.Pending);
        vm.assertEq(token.balanceOf(address(coordinator)), TOKEN_PRICE);
    }

    function test_GivenAPermitThatIsLateOrForeign_ItReverts() external {
        disallow();
        bytes memory refusal = abi.encodeWithSelector(
            IERC20Errors.ERC20InsufficientAllowance.selector, address(coordinator), 0, TOKEN_PRICE
        );
        IInferenceCoordinator.Permit memory permit = permitOf(token, TOKEN_PRICE);
        vm.warp(NOW + 2 hours);
        vm.expectRevert(refusal);
        askWithPermit(TOKEN_PRICE, permit);
        vm.warp(NOW);
        // Signed by the person, sent by somebody else.
        token.mint(stranger, TOKEN_PRICE);
        vm.expectRevert(refusal);
        vm.prank(stranger);
        coordinator.requestWithPermit(modelId, cid("picture"), 0, NOW + 1 hours, TOKEN_PRICE, permit);
    }

    function test_FromTheBalance_ItTakesTheModelsTokenAndNoOther() external {
        vm.prank(person);
        coordinator.deposit{value: 1 ether}();
        PlainToken other = new PlainToken(6);
        fund(other);
        vm.startPrank(person);
        coordinator.depositToken(address(other), TOKEN_PRICE);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.BalanceTooLow.selector, address(token), person, 0, TOKEN_PRICE)
        );
        coordinator.requestFromBalance(modelId, cid("picture"), 0, NOW + 1 hours, TOKEN_PRICE);
        coordinator.depositToken(address(token), 3 * TOKEN_PRICE);
        coordinator.requestFromBalance(modelId, cid("picture"), 0, NOW + 1 hours, TOKEN_PRICE);
        bytes[] memory images = new bytes[](2);
        (images[0], images[1]) = (cid("second"), cid("third"));
        coordinator.requestManyFromBalance(modelId, images, 0, NOW + 1 hours, 2 * TOKEN_PRICE);
        vm.stopPrank();
        vm.assertEq(held(person), 0);
        vm.assertEq(coordinator.balanceOf(address(other), person), TOKEN_PRICE);
        vm.assertEq(balanceOf(person), 1 ether);
        vm.assertEq(coordinator.nextNonce(), 3);
    }

    // Callbacks

    function test_GivenNoCallbackPrice_NoneIsSold() external {
        bytes memory notSold = abi.encodeWithSelector(IInferenceCoordinator.CallbackNotSold.selector, address(token));
        vm.expectRevert(notSold);
        coordinator.quote(modelId, 1);
        vm.expectRevert(notSold);
        vm.prank(person);
        coordinator.requestWithToken(modelId, cid("picture"), 1, NOW + 1 hours, 10 ** 12);
        vm.assertEq(coordinator.quote(modelId, 0), TOKEN_PRICE);

        vm.startPrank(owner);
        coordinator.setCallbackPrice(address(new PlainToken(6)), 9);
        vm.expectRevert(notSold);
        coordinator.quote(modelId, 1);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.CallbackPriceSet(address(token), 40);
        coordinator.setCallbackPrice(address(token), 40);
        vm.assertEq(coordinator.quote(modelId, 10_001), TOKEN_PRICE + 80);
        coordinator.setCallbackPrice(address(token), 0);
        vm.expectRevert(notSold);
        coordinator.quote(modelId, 1);
        vm.stopPrank();
    }

    function test_GivenAnEtherCallbackPriceOfZero_CallbacksAreFree() external {
        vm.prank(owner);
        coordinator.setCallbackPrice(ETHER, 0);
        vm.assertEq(coordinator.quote(1, 100_000), PRICE);
    }

    // Paid out

    function test_AnAnswerIsPaidForInTheToken() external {
        vm.deal(operator, 0);
        reportOne(success(askInToken(TOKEN_PRICE)));
        uint256 share = TOKEN_PRICE * 3 / 10;
        vm.assertEq(coordinator.earningsOf(modelId), share);
        vm.assertEq(held(operator), TOKEN_PRICE - share);
        vm.assertEq(balanceOf(operator), 0);

        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.EarningsWithdrawn(modelId, stranger, share);
        vm.prank(payout);
        vm.assertEq(coordinator.withdrawEarnings(modelId, stranger), share);
        vm.assertEq(token.balanceOf(stranger), share);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Withdrawn(address(token), operator, operator, TOKEN_PRICE - share);
        vm.prank(operator);
        coordinator.withdraw(address(token), operator, TOKEN_PRICE - share);
        vm.assertEq(token.balanceOf(operator), TOKEN_PRICE - share);
        vm.assertEq(token.balanceOf(address(coordinator)), 0);
    }

    function test_GivenAReportOfSeveralTokens_EachIsCreditedInItsOwn() external {
        PlainToken fine = new PlainToken(18);
        fund(fine);
        uint256 coarse = modelId;
        uint256 other = publish(10 ** 18, address(fine));
        uint256[6] memory order = [coarse, 1, other, coarse, other, 1];
        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](order.length);
        for (uint256 i = 0; i < order.length; ++i) {
            vm.prank(person);
            items[i] = success(
                order[i] == 1
                    ? coordinator.request{value: PRICE}(1, cid("picture"), 0, NOW + 1 hours)
                    : coordinator.requestWithToken(order[i], cid("picture"), 0, NOW + 1 hours, 10 ** 18)
            );
        }
        vm.prank(operator);
        coordinator.report(items);
        vm.assertEq(held(operator), 2 * TOKEN_PRICE * 7 / 10);
        vm.assertEq(coordinator.balanceOf(address(fine), operator), 2 * 10 ** 18 * 7 / 10);
        vm.assertEq(balanceOf(operator), 2 * PRICE * 7 / 10);
        vm.assertEq(coordinator.earningsOf(coarse), 2 * TOKEN_PRICE * 3 / 10);
        vm.assertEq(coordinator.earningsOf(other), 2 * 10 ** 18 * 3 / 10);
        vm.assertEq(coordinator.earningsOf(1), 2 * PRICE * 3 / 10);
    }

    function test_AFailureARefundAndACancelGoToTheBalance_AndCallNoToken() external {
        bytes32 fulfilled = askInToken(TOKEN_PRICE);
        bytes32 failed = askInToken(TOKEN_PRICE);
        bytes32 refunded = askInToken(TOKEN_PRICE);
        IInferenceCoordinator.RequestTerms memory terms = termsOf(3, 0);
        askInToken(TOKEN_PRICE);
        bytes memory code = address(token).code;
        // Every call of the token fails from here on.
        vm.etch(address(token), hex"fe");

        IInferenceCoordinator.Fulfilment[] memory items = new IInferenceCoordinator.Fulfilment[](2);
        (items[0], items[1]) = (success(fulfilled), failure(failed));
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.InferenceRefunded(failed, person, TOKEN_PRICE);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Credited(address(token), person, TOKEN_PRICE);
        vm.prank(operator);
        coordinator.report(items);
        vm.assertEq(held(person), TOKEN_PRICE);
        vm.prank(person);
        coordinator.cancel(terms);
        vm.assertEq(held(person), 2 * TOKEN_PRICE);
        vm.warp(NOW + 2 hours);
        coordinator.refund(refunded);
        vm.assertEq(held(person), 3 * TOKEN_PRICE);
        vm.assertEq(coordinator.requestOf(refunded).payment, TOKEN_PRICE);

        vm.etch(address(token), code);
        uint256 before = token.balanceOf(person);
        vm.prank(person);
        coordinator.withdraw(address(token), person, 3 * TOKEN_PRICE);
        vm.assertEq(token.balanceOf(person) - before, 3 * TOKEN_PRICE);
        vm.assertEq(token.balanceOf(address(coordinator)), TOKEN_PRICE);
    }

    // Deposits

    function testFuzz_Deposit_ItIsAddedAndPaidOut(uint96 amount, uint96 wanted) external {
        uint256 part = bound(wanted, 0, amount);
        token.mint(person, amount);
        uint256 before = token.balanceOf(person);
        vm.startPrank(person);
        vm.expectEmit(address(coordinator));
        emit IInferenceCoordinator.Deposited(address(token), person, amount);
        coordinator.depositToken(address(token), amount);
        vm.assertEq(held(person), amount);
        coordinator.withdraw(address(token), stranger, part);
        vm.stopPrank();
        vm.assertEq(held(person), amount - part);
        vm.assertEq(token.balanceOf(stranger), part);
        vm.assertEq(before - token.balanceOf(person), amount);
    }

    function test_Deposit_GivenAPermit_ItNeedsNoAllowance_AlsoWhenItWasUsedBefore() external {
        disallow();
        IInferenceCoordinator.Permit memory permit = permitOf(token, 11);
        vm.prank(person);
        coordinator.depositWithPermit(address(token), 11, permit);
        vm.assertEq(held(person), 11);
        permit = permitOf(token, 12);
        token.permit(person, address(coordinator), 12, permit.deadline, permit.v, permit.r, permit.s);
        vm.prank(person);
        coordinator.depositWithPermit(address(token), 12, permit);
        vm.assertEq(held(person), 23);
    }

    function test_Deposit_GivenMoreThanABalanceCanBear_ItReverts() external {
        uint256 most = type(uint128).max;
        token.mint(person, most);
        vm.startPrank(person);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.DepositTooLarge.selector, most + 1, most));
        coordinator.depositToken(address(token), most + 1);
        coordinator.depositToken(address(token), most);
        vm.stopPrank();
        vm.assertEq(held(person), most);
    }

    function test_Withdraw_GivenTheCoordinatorItself_ItReverts() external {
        vm.startPrank(person);
        coordinator.depositToken(address(token), 5);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.TransferFailed.selector, address(coordinator), 5));
        coordinator.withdraw(address(token), address(coordinator), 5);
        vm.stopPrank();
    }

    function test_Deposit_GivenNoContract_ItReverts() external {
        IInferenceCoordinator.Permit memory permit;
        address[2] memory none = [ETHER, stranger];
        for (uint256 i = 0; i < none.length; ++i) {
            bytes memory unsupported = abi.encodeWithSelector(IInferenceCoordinator.TokenUnsupported.selector, none[i]);
            vm.expectRevert(unsupported);
            coordinator.depositToken(none[i], 1);
            vm.expectRevert(unsupported);
            coordinator.depositWithPermit(none[i], 1, permit);
        }
    }

    function test_Withdraw_GivenMoreThanIsThereOrNobody_ItReverts() external {
        vm.startPrank(person);
        coordinator.depositToken(address(token), 5);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceCoordinator.BalanceTooLow.selector, address(token), person, 5, 6)
        );
        coordinator.withdraw(address(token), person, 6);
        vm.expectRevert(IInferenceCoordinator.ZeroAddress.selector);
        coordinator.withdraw(address(token), address(0), 5);
        vm.stopPrank();
    }

    // Tokens of every kind

    function test_GivenAFeeOnTransfer_NothingIsTaken() external {
        FeeOnTransferToken costly = new FeeOnTransferToken(6);
        use(costly);
        bytes memory inexact = abi.encodeWithSelector(
            IInferenceCoordinator.TokenTransferInexact.selector, address(costly), TOKEN_PRICE * 99 / 100, TOKEN_PRICE
        );
        vm.expectRevert(inexact);
        askInToken(TOKEN_PRICE);
        vm.expectRevert(inexact);
        vm.prank(person);
        coordinator.depositToken(address(costly), TOKEN_PRICE);
        vm.assertEq(costly.balanceOf(address(coordinator)), 0);
        vm.assertEq(coordinator.nextNonce(), 0);
    }

    function test_GivenATokenThatReturnsNothing_ItWorks() external {
        NoReturnToken old = new NoReturnToken(6);
        modelId = publish(TOKEN_PRICE, address(old));
        old.mint(person, 10 * TOKEN_PRICE);
        vm.startPrank(person);
        old.approve(address(coordinator), type(uint256).max);
        coordinator.depositToken(address(old), TOKEN_PRICE);
        coordinator.withdraw(address(old), stranger, TOKEN_PRICE);
        vm.stopPrank();
        vm.assertEq(old.balanceOf(stranger), TOKEN_PRICE);
        reportOne(success(askInToken(TOKEN_PRICE)));
        vm.prank(payout);
        coordinator.withdrawEarnings(modelId, payout);
        vm.assertEq(old.balanceOf(payout), TOKEN_PRICE * 3 / 10);
        // It knows no permits; the allowance counts.
        IInferenceCoordinator.Permit memory permit;
        assertStatus(askWithPermit(TOKEN_PRICE, permit), IInferenceCoordinator.Status.Pending);
    }

    function test_GivenATokenThatReturnsFalse_NothingIsTakenOrLost() external {
        FalseReturnToken lying = new FalseReturnToken(6);
        use(lying);
        vm.prank(person);
        coordinator.depositToken(address(lying), TOKEN_PRICE);
        reportOne(success(askInToken(TOKEN_PRICE)));
        lying.setFailing(true);
        expectTokenRefusal(
            address(lying), abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(lying))
        );
    }

    function test_GivenATokenThatReverts_NothingIsTakenOrLost() external {
        RevertingToken stopped = new RevertingToken(6);
        use(stopped);
        vm.prank(person);
        coordinator.depositToken(address(stopped), TOKEN_PRICE);
        reportOne(success(askInToken(TOKEN_PRICE)));
        stopped.setFailing(true);
        expectTokenRefusal(address(stopped), abi.encodeWithSelector(RevertingToken.TransfersStopped.selector));
        stopped.setFailing(false);
        vm.prank(person);
        coordinator.withdraw(address(stopped), person, TOKEN_PRICE);
        vm.assertEq(coordinator.balanceOf(address(stopped), person), 0);
    }

    function test_GivenATokenThatReenters_NothingGoesThrough() external {
        ReentrantToken hostile = new ReentrantToken(6, coordinator);
        use(hostile);
        bytes memory attack = abi.encodeCall(IInferenceCoordinator.deposit, ());
        hostile.prepare(attack);
        bytes32 requestId = askInToken(TOKEN_PRICE);
        vm.prank(person);
        coordinator.depositToken(address(hostile), TOKEN_PRICE);
        reportOne(success(requestId));
        vm.prank(person);
        coordinator.withdraw(address(hostile), person, TOKEN_PRICE);
        vm.prank(payout);
        coordinator.withdrawEarnings(modelId, payout);
        vm.assertEq(hostile.tries(), 4);
        vm.assertEq(hostile.breaches(), 0);
        vm.prank(address(hostile));
        (bool sound,) = address(coordinator).call(attack);
        vm.assertTrue(sound, "the attack itself is sound");
    }

    function test_GivenATokenThatReentersToWithdrawTwice_ItPaysOnce() external {
        ReentrantToken hostile = new ReentrantToken(6, coordinator);
        use(hostile);
        vm.prank(person);
        coordinator.depositToken(address(hostile), 3 * TOKEN_PRICE);
        hostile.mint(address(hostile), TOKEN_PRICE);
        vm.startPrank(address(hostile));
        hostile.approve(address(coordinator), TOKEN_PRICE);
        coordinator.depositToken(address(hostile), TOKEN_PRICE);
        hostile.prepare(
            abi.encodeCall(IInferenceCoordinator.withdraw, (address(hostile), address(hostile), TOKEN_PRICE))
        );
        coordinator.withdraw(address(hostile), address(hostile), TOKEN_PRICE);
        vm.stopPrank();
        vm.assertEq(hostile.breaches(), 0);
        vm.assertEq(hostile.balanceOf(address(coordinator)), 3 * TOKEN_PRICE);
    }

    function fund(PlainToken some) private {
        some.mint(person, 10 ** 24);
        vm.prank(person);
        some.approve(address(coordinator), type(uint256).max);
    }

    function use(PlainToken other) private {
        token = other;
        modelId = publish(TOKEN_PRICE, address(other));
        fund(other);
    }

    function disallow() private {
        vm.prank(person);
        token.approve(address(coordinator), 0);
    }

    function held(address account) private view returns (uint256) {
        return coordinator.balanceOf(address(token), account);
    }

    function askInToken(uint256 maxPayment) private returns (bytes32) {
        vm.prank(person);
        return coordinator.requestWithToken(modelId, cid("picture"), 0, NOW + 1 hours, maxPayment);
    }

    function askWithPermit(uint256 maxPayment, IInferenceCoordinator.Permit memory permit) private returns (bytes32) {
        vm.prank(person);
        return coordinator.requestWithPermit(modelId, cid("picture"), 0, NOW + 3 hours, maxPayment, permit);
    }

    /// @dev The person's permit for the coordinator, good for an hour.
    function permitOf(PlainToken some, uint256 amount) private view returns (IInferenceCoordinator.Permit memory) {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                person,
                address(coordinator),
                amount,
                some.nonces(person),
                NOW + 1 hours
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            sign(person, keccak256(abi.encodePacked(hex"1901", some.DOMAIN_SEPARATOR(), structHash)));
        return IInferenceCoordinator.Permit({deadline: NOW + 1 hours, v: v, r: r, s: s});
    }

    function expectBadPrice(address some, uint256 price) private {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PriceNotRepresentable.selector, price));
        vm.prank(owner);
        coordinator.publishModel(cid("m"), price, some, payout);
    }

    function expectUnsupported(address some) private {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.TokenUnsupported.selector, some));
        vm.prank(owner);
        coordinator.publishModel(cid("m"), 1, some, payout);
    }

    /// @dev Every way to move the token fails for this reason, and whoever had something still has it.
    function expectTokenRefusal(address some, bytes memory reason) private {
        vm.expectRevert(reason);
        askInToken(TOKEN_PRICE);
        vm.startPrank(person);
        vm.expectRevert(reason);
        coordinator.depositToken(some, TOKEN_PRICE);
        vm.expectRevert(reason);
        coordinator.withdraw(some, person, TOKEN_PRICE);
        vm.stopPrank();
        vm.expectRevert(reason);
        vm.prank(payout);
        coordinator.withdrawEarnings(modelId, payout);
        vm.assertEq(coordinator.nextNonce(), 1);
        vm.assertEq(held(person), TOKEN_PRICE);
        vm.assertEq(coordinator.earningsOf(modelId), TOKEN_PRICE * 3 / 10);
    }
}
