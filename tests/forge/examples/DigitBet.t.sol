// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {InferenceConsumer} from "../../../contracts/InferenceConsumer.sol";
import {DigitBet} from "../../../contracts/examples/DigitBet.sol";
import {IInferenceCoordinator} from "../../../contracts/interfaces/IInferenceCoordinator.sol";
import {ExampleTest} from "./ExampleTest.sol";

contract DigitBetTest is ExampleTest {
    uint256 private constant CLOSES_AT = NOW + 2 days;
    uint256 private constant LAST_MOMENT = CLOSES_AT + 1 days;

    address private anna = makeAccount("anna");
    address private ben = makeAccount("ben");
    address private cleo = makeAccount("cleo");

    DigitBet private bets;
    uint256 private price;
    uint256 private betId;

    function setUp() public override {
        super.setUp();
        bets = new DigitBet(coordinator, modelId);
        price = bets.price();
        betId = bets.open(cid("secret"), CLOSES_AT);
        vm.deal(anna, 100 ether);
        vm.deal(ben, 100 ether);
        vm.deal(cleo, 100 ether);
    }

    // ---------------------------------------------------------------------------------------------- open and stake

    function test_Open_ThePictureIsFixed() external {
        vm.expectEmit(address(bets));
        emit DigitBet.BetOpened(2, cid("another"), NOW + 30 days);
        uint256 another = bets.open(cid("another"), NOW + 30 days);
        vm.assertEq(another, 2);
        (bytes memory imageCid, uint256 closesAt, uint256 pot,) = bets.betOf(another);
        vm.assertEq(imageCid, cid("another"));
        vm.assertEq(closesAt, NOW + 30 days);
        vm.assertEq(pot, 0);
        assertPhase(DigitBet.Phase.Open);
    }

    function test_Open_GivenABadCidOrTime_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.InvalidCid.selector, bytes("seven")));
        bets.open("seven", CLOSES_AT);
        uint256 latest = NOW + 30 days;
        vm.expectRevert(abi.encodeWithSelector(DigitBet.ClosingTimeOutOfRange.selector, NOW, latest));
        bets.open(cid("secret"), NOW);
        vm.expectRevert(abi.encodeWithSelector(DigitBet.ClosingTimeOutOfRange.selector, latest + 1, latest));
        bets.open(cid("secret"), latest + 1);
    }

    function test_AnUnknownBet_TakesAndGivesNothing() external {
        bytes memory unknown = abi.encodeWithSelector(DigitBet.UnknownBet.selector, 9);
        vm.expectRevert(unknown);
        bets.stake{value: 1}(9, 7);
        vm.expectRevert(unknown);
        bets.ask{value: price}(9);
        vm.expectRevert(unknown);
        bets.claim(9);
        vm.expectRevert(unknown);
        bets.betOf(9);
    }

    function test_Stake_ItAddsUp() external {
        back(anna, 7, 1 ether);
        back(anna, 7, 2 ether);
        back(ben, 3, 4 ether);
        (uint8 digit, uint128 amount) = bets.stakeOf(betId, anna);
        vm.assertEq(digit, 7);
        vm.assertEq(amount, 3 ether);
        vm.assertEq(bets.backing(betId, 7), 3 ether);
        (,, uint256 pot,) = bets.betOf(betId);
        vm.assertEq(pot, 7 ether);
    }

    function test_Stake_GivenNoDigitOrAnotherOne_ItReverts() external {
        vm.expectRevert(abi.encodeWithSelector(DigitBet.NotADigit.selector, 10));
        bets.stake{value: 1}(betId, 10);
        back(anna, 7, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(DigitBet.OtherDigitBacked.selector, 7));
        vm.prank(anna);
        bets.stake{value: 1}(betId, 8);
    }

    function test_Stake_GivenTheBetIsClosed_ItReverts() external {
        vm.warp(CLOSES_AT);
        back(anna, 7, 1 ether);
        vm.warp(CLOSES_AT + 1);
        expectWrongPhase(DigitBet.Phase.Closed);
        bets.stake{value: 1}(betId, 7);
    }

    // ---------------------------------------------------------------------------------------------- ask and settle

    function test_Ask_GivenTheBetIsOpen_ItReverts() external {
        vm.warp(CLOSES_AT);
        expectWrongPhase(DigitBet.Phase.Open);
        bets.ask{value: price}(betId);
    }

    function test_Ask_ItAsksOnceAboutThePicture() external {
        back(anna, 7, 1 ether);
        vm.warp(CLOSES_AT + 1);
        vm.deal(stranger, 1 ether);
        vm.prank(stranger);
        bytes32 requestId = bets.ask{value: 1 ether}(betId);
        vm.assertEq(stranger.balance, 1 ether - price);
        vm.assertEq(address(bets).balance, 1 ether);
        vm.assertEq(requestId, lastRequest(bets, cid("secret"), bets.CALLBACK_GAS(), LAST_MOMENT));
        expectWrongPhase(DigitBet.Phase.Asked);
        bets.ask{value: price}(betId);
    }

    function test_Ask_GivenTooLittle_TheStakesAreNotTouched() external {
        back(anna, 7, 1 ether);
        vm.warp(CLOSES_AT + 1);
        vm.expectRevert(abi.encodeWithSelector(IInferenceCoordinator.PaymentTooLow.selector, price - 1, price));
        bets.ask{value: price - 1}(betId);
    }

    function test_Settle_TheWinnersShareThePot() external {
        back(anna, 7, 1 ether);
        back(ben, 7, 3 ether);
        back(cleo, 2, 8 ether);
        bytes32 requestId = askForBet();
        vm.expectEmit(address(bets));
        emit DigitBet.BetAnswered(betId, 7, DigitBet.Phase.Settled);
        reportOne(success(requestId));
        assertStatus(requestId, IInferenceCoordinator.Status.Fulfilled);
        assertPhase(DigitBet.Phase.Settled);
        vm.assertEq(claim(anna), 3 ether);
        vm.assertEq(claim(ben), 9 ether);
        expectNothing(cleo);
        expectNothing(anna);
        vm.assertEq(address(bets).balance, 0);
        vm.assertEq(anna.balance, 102 ether);
    }

    function testFuzz_Settle_AtMostAWeiForEachWinnerStays(uint96 first, uint96 second, uint96 third) external {
        vm.deal(anna, uint256(first) + 1);
        vm.deal(ben, uint256(second) + 1);
        vm.deal(cleo, third);
        back(anna, 7, uint256(first) + 1);
        back(ben, 7, uint256(second) + 1);
        back(cleo, 2, third);
        reportOne(success(askForBet()));
        uint256 paid = claim(anna) + claim(ben);
        uint256 pot = uint256(first) + second + third + 2;
        vm.assertLe(paid, pot);
        vm.assertLe(pot - paid, 1);
        vm.assertEq(address(bets).balance, pot - paid);
        vm.assertGe(anna.balance, uint256(first) + 1);
    }

    function test_Settle_GivenNobodyBackedTheDigit_TheStakesGoBack() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        bytes32 requestId = askForBet();
        vm.expectEmit(address(bets));
        emit DigitBet.BetAnswered(betId, 7, DigitBet.Phase.Void);
        reportOne(success(requestId));
        assertStakesGoBack();
    }

    function test_Settle_GivenAClassThatIsNoDigit_TheStakesGoBack() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        reportOne(answered(askForBet(), answerOf(300, 9000)));
        assertStakesGoBack();
    }

    function test_Settle_OneBetDoesNotTouchAnother() external {
        uint256 other = bets.open(cid("other"), CLOSES_AT);
        back(anna, 7, 1 ether);
        vm.prank(ben);
        bets.stake{value: 5 ether}(other, 7);
        reportOne(success(askForBet()));
        vm.assertEq(claim(anna), 1 ether);
        vm.assertEq(address(bets).balance, 5 ether);
        vm.assertEq(uint256(bets.phaseOf(other)), uint256(DigitBet.Phase.Closed));
        vm.expectRevert(abi.encodeWithSelector(DigitBet.WrongPhase.selector, other, DigitBet.Phase.Closed));
        vm.prank(ben);
        bets.claim(other);
    }

    function test_Settle_ItFitsItsGas() external {
        back(anna, 7, 1 ether);
        assertFits(bets, bets.CALLBACK_GAS(), askForBet(), answerOf(7, 9876));
        assertPhase(DigitBet.Phase.Settled);
    }

    function test_Claim_GivenTheBetHasNotEnded_ItReverts() external {
        back(anna, 7, 1 ether);
        expectNoClaim(DigitBet.Phase.Open);
        vm.warp(CLOSES_AT + 1);
        expectNoClaim(DigitBet.Phase.Closed);
        askForBet();
        expectNoClaim(DigitBet.Phase.Asked);
        vm.warp(LAST_MOMENT);
        expectNoClaim(DigitBet.Phase.Asked);
    }

    // ---------------------------------------------------------------------------------------------- void

    function test_Void_GivenAFailure_StakesAndPaymentGoBack() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        uint256 before = person.balance;
        bytes32 requestId = askForBet();
        reportOne(failure(requestId));
        assertPhase(DigitBet.Phase.Asked);
        vm.expectEmit(address(bets));
        emit DigitBet.BetVoided(betId);
        vm.prank(stranger);
        bets.reclaim(requestId);
        vm.assertEq(person.balance, before);
        assertStakesGoBack();
    }

    function test_Void_GivenNoAnswer_StakesAndPaymentGoBack() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        uint256 before = person.balance;
        bytes32 requestId = askForBet();
        vm.warp(LAST_MOMENT + 1);
        // The stakes need nobody's refund
        assertStakesGoBack();
        vm.assertEq(address(bets).balance, 0);
        bets.reclaim(requestId);
        vm.assertEq(person.balance, before);
    }

    function test_Void_GivenNobodyAsked_TheStakesGoBack() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        vm.warp(LAST_MOMENT);
        assertPhase(DigitBet.Phase.Closed);
        vm.warp(LAST_MOMENT + 1);
        assertStakesGoBack();
        expectWrongPhase(DigitBet.Phase.Void);
        bets.ask{value: price}(betId);
    }

    function test_Void_GivenAnAnswerThatCannotBeRead_TheStakesGoBackWithTime() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        bytes32 requestId = askForBet();
        reportOne(answered(requestId, "no answer"));
        assertStatus(requestId, IInferenceCoordinator.Status.CallbackFailed);
        expectNoClaim(DigitBet.Phase.Asked);
        vm.warp(LAST_MOMENT + 1);
        assertStakesGoBack();
    }

    function test_Void_GivenARetryThatComesTooLate_ItChangesNothing() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        bytes32 requestId = askForBet();
        vm.warp(LAST_MOMENT + 1);
        vm.assertEq(claim(anna), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(DigitBet.WrongPhase.selector, betId, DigitBet.Phase.Void));
        vm.prank(address(coordinator));
        bets.fulfillInference(requestId, cid("result"), answerOf(1, 9000));
        vm.assertEq(claim(ben), 3 ether);
    }

    // ---------------------------------------------------------------------------------------------- hostile people

    function test_Claim_GivenAWinnerWhoRefuses_TheOthersArePaid() external {
        puppetBacks(7, 1 ether);
        back(ben, 7, 1 ether);
        back(cleo, 2, 2 ether);
        reportOne(success(askForBet()));
        puppet.setRefuses(true);
        puppet.act(address(bets), 0, abi.encodeCall(DigitBet.claim, (betId)));
        vm.assertEq(claim(ben), 2 ether);
        vm.assertEq(bets.owed(address(puppet)), 2 ether);
        puppet.act(address(bets), 0, abi.encodeCall(InferenceConsumer.withdraw, (stranger)));
        vm.assertEq(stranger.balance, 2 ether);
    }

    function test_Claim_GivenAWinnerWhoComesBackIn_TheyArePaidOnce() external {
        puppetBacks(7, 1 ether);
        back(ben, 7, 1 ether);
        reportOne(success(askForBet()));
        puppet.prepare(address(bets), abi.encodeCall(DigitBet.claim, (betId)));
        puppet.act(address(bets), 0, abi.encodeCall(DigitBet.claim, (betId)));
        vm.assertEq(puppet.tries(), 1);
        vm.assertEq(puppet.breaches(), 0);
        vm.assertEq(address(bets).balance, 1 ether);
    }

    function test_Reclaim_GivenAnAskerWhoRefuses_TheBetIsVoidAllTheSame() external {
        back(anna, 1, 1 ether);
        back(ben, 2, 3 ether);
        vm.warp(CLOSES_AT + 1);
        puppet.setRefuses(true);
        bytes memory data = abi.encodeCall(DigitBet.ask, (betId));
        bytes32 requestId = abi.decode(puppet.act(address(bets), price, data), (bytes32));
        reportOne(failure(requestId));
        bets.reclaim(requestId);
        vm.assertEq(bets.owed(address(puppet)), price);
        assertStakesGoBack();
        vm.assertEq(address(bets).balance, price);
    }

    function back(address account, uint8 digit, uint256 amount) private {
        vm.prank(account);
        bets.stake{value: amount}(betId, digit);
    }

    function puppetBacks(uint8 digit, uint256 amount) private {
        puppet.act(address(bets), amount, abi.encodeCall(DigitBet.stake, (betId, digit)));
    }

    function askForBet() private returns (bytes32) {
        vm.warp(CLOSES_AT + 1);
        vm.prank(person);
        return bets.ask{value: price}(betId);
    }

    function claim(address account) private returns (uint256) {
        vm.prank(account);
        return bets.claim(betId);
    }

    /// @dev Anna has one ether on the bet and Ben three.
    function assertStakesGoBack() private {
        assertPhase(DigitBet.Phase.Void);
        vm.assertEq(claim(anna), 1 ether);
        vm.assertEq(claim(ben), 3 ether);
        vm.assertEq(anna.balance, 100 ether);
        vm.assertEq(ben.balance, 100 ether);
        expectNothing(anna);
        expectNothing(cleo);
    }

    function expectNothing(address account) private {
        vm.expectRevert(abi.encodeWithSelector(DigitBet.NothingToClaim.selector, betId, account));
        claim(account);
    }

    function expectWrongPhase(DigitBet.Phase phase) private {
        assertPhase(phase);
        vm.expectRevert(abi.encodeWithSelector(DigitBet.WrongPhase.selector, betId, phase));
    }

    function expectNoClaim(DigitBet.Phase phase) private {
        expectWrongPhase(phase);
        claim(anna);
    }

    function assertPhase(DigitBet.Phase phase) private view {
        vm.assertEq(uint256(bets.phaseOf(betId)), uint256(phase), "phase");
    }
}
