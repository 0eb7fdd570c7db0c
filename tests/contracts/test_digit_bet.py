"""DigitBet: people bet on the digit that a model will read in a picture; those who backed it share the pot."""

import brownie
import pytest
from conftest import PRICE, answered, failed, id_in, make_cid, reverts

SECRET = make_cid("a digit that nobody has seen yet")
DAY = 24 * 3600
OPEN, CLOSED, ASKED, SETTLED, VOID = range(5)
ETH = 10**18


@pytest.fixture(scope="module")
def bets(DigitBet, coordinator, model, owner):
    return owner.deploy(DigitBet, coordinator, model)


@pytest.fixture
def closes_at(chain):
    chain.mine()
    return chain[-1].timestamp + DAY


@pytest.fixture
def bet(bets, closes_at, stranger):
    """The id of a bet that takes stakes for a day. Anyone may open one."""
    bets.open(SECRET, closes_at, {"from": stranger})
    return bets.lastBetId()


@pytest.fixture
def back(bets, bet):
    """Puts ether on a digit."""
    return lambda account, digit, amount: bets.stake(bet, digit, {"from": account, "value": amount})


@pytest.fixture
def staked(back, person, holder, owner, operator):
    """The person has one ether on the seven, the operator three, the holder eight on the two."""
    owner.transfer(holder, 10 * ETH)
    back(person, 7, ETH)
    back(operator, 7, 3 * ETH)
    back(holder, 2, 8 * ETH)


@pytest.fixture
def ask(bets, bet, closes_at, wait_until, stranger):
    """Lets the bet close, asks the model as a stranger and gives the id of the request."""

    def make():
        wait_until(closes_at + 1)
        return id_in(bets.ask(bet, {"from": stranger, "value": bets.price()}))

    return make


# price, modelId, CALLBACK_GAS


def test_to_ask_costs_a_prediction_and_its_callback(bets, model):
    assert bets.modelId() == model
    assert bets.price() == PRICE + bets.CALLBACK_GAS() * 10**9


# open, lastBetId, betOf, phaseOf, MAX_OPEN_TIME


def test_a_bet_begins_with_its_picture(bets, bet, closes_at):
    known = bets.betOf(bet).dict()
    assert (bytes(known.pop("imageCid")), known) == (SECRET, {"closesAt": closes_at, "pot": 0, "outcome": 0})
    assert (bet, bets.phaseOf(bet)) == (1, OPEN)


def test_a_bet_closes_within_thirty_days(bets, chain, stranger):
    assert bets.MAX_OPEN_TIME() == 30 * DAY
    for days in (0, 31):
        with brownie.reverts():  # ClosingTimeOutOfRange, with the second of a block that is not there yet
            bets.open(SECRET, chain[-1].timestamp + days * DAY, {"from": stranger})
    bets.open(SECRET, chain[-1].timestamp + 30 * DAY, {"from": stranger})


def test_a_bet_that_nobody_opened_is_unknown(bets, person):
    for view in (bets.betOf, bets.phaseOf):
        with reverts("UnknownBet", 9):
            view(9)
    with reverts("UnknownBet", 9):
        bets.stake(9, 7, {"from": person, "value": 1})


# stake, stakeOf, backing, MAX_DIGIT


def test_stakes_add_up(bets, bet, back, person, operator):
    back(person, 7, ETH)
    back(person, 7, 2 * ETH)
    back(operator, 3, 4 * ETH)
    assert bets.stakeOf(bet, person).dict() == {"digit": 7, "amount": 3 * ETH}
    assert (bets.backing(bet, 7), bets.backing(bet, 3)) == (3 * ETH, 4 * ETH)
    assert bets.betOf(bet)["pot"] == 7 * ETH


def test_there_are_ten_digits(bets, back, person):
    assert bets.MAX_DIGIT() == 9
    with reverts("NotADigit", 10):
        back(person, 10, ETH)


def test_everybody_backs_one_digit_only(back, person):
    back(person, 7, ETH)
    with reverts("OtherDigitBacked", 7):
        back(person, 8, ETH)


def test_a_closed_bet_takes_no_stakes(bets, bet, back, closes_at, wait_until, person):
    wait_until(closes_at + 1)
    assert bets.phaseOf(bet) == CLOSED
    with reverts("WrongPhase", bet, CLOSED):
        back(person, 7, ETH)


# ask, ANSWER_TIME


def test_anyone_asks_once_the_bet_has_closed(bets, bet, ask, coordinator, closes_at):
    known = coordinator.requestOf(ask())
    assert known["requester"] == bets
    assert known["deadline"] == closes_at + bets.ANSWER_TIME() == closes_at + DAY
    assert bets.phaseOf(bet) == ASKED


def test_but_not_before_and_not_twice(bets, bet, ask, stranger):
    with reverts("WrongPhase", bet, OPEN):
        bets.ask(bet, {"from": stranger, "value": bets.price()})
    ask()
    with reverts("WrongPhase", bet, ASKED):
        bets.ask(bet, {"from": stranger, "value": bets.price()})


def test_stakes_never_pay_for_the_question(bets, bet, back, closes_at, wait_until, person, stranger):
    back(person, 7, ETH)
    wait_until(closes_at + 1)
    price = bets.price()
    with reverts("PaymentTooLow", price - 1, price):
        bets.ask(bet, {"from": stranger, "value": price - 1})
    bets.ask(bet, {"from": stranger, "value": "1 ether"})
    assert bets.balance() == ETH


# claim


def test_who_backed_the_digit_shares_the_pot(bets, bet, staked, ask, report, person, operator, holder):
    report(answered(ask(), digit=7))
    assert (bets.phaseOf(bet), bets.betOf(bet)["outcome"]) == (SETTLED, 7)
    before = person.balance(), operator.balance()
    bets.claim(bet, {"from": person})
    bets.claim(bet, {"from": operator})
    assert (person.balance() - before[0], operator.balance() - before[1]) == (3 * ETH, 9 * ETH)
    with reverts("NothingToClaim", bet, holder):
        bets.claim(bet, {"from": holder})


def test_nobody_is_paid_twice(bets, bet, staked, ask, report, person):
    report(answered(ask(), digit=7))
    bets.claim(bet, {"from": person})
    with reverts("NothingToClaim", bet, person):
        bets.claim(bet, {"from": person})


def test_before_the_end_nothing_is_paid(bets, bet, staked, ask, person):
    ask()
    with reverts("WrongPhase", bet, ASKED):
        bets.claim(bet, {"from": person})


# Bets that end without a winner


@pytest.fixture
def stakes_go_back(bets, bet, person, operator, holder):
    """Sees everybody take their own stake out."""

    def check():
        assert bets.phaseOf(bet) == VOID
        for account, stake in ((person, ETH), (operator, 3 * ETH), (holder, 8 * ETH)):
            assert bets.claim(bet, {"from": account}).events["Claimed"]["amount"] == stake

    return check


def test_a_digit_that_nobody_backed_voids_the_bet(staked, ask, report, stakes_go_back):
    report(answered(ask(), digit=4))
    stakes_go_back()


def test_so_does_a_picture_that_cannot_be_read_once_somebody_says_so(
    bets, staked, ask, report, stranger, person, stakes_go_back
):
    before = stranger.balance()
    request_id = ask()
    report(failed(request_id))
    bets.reclaim(request_id, {"from": person})
    assert stranger.balance() == before  # who asked is paid back
    stakes_go_back()


def test_and_so_does_time_when_nobody_asks(staked, closes_at, wait_until, stakes_go_back):
    wait_until(closes_at + DAY + 1)
    stakes_go_back()
