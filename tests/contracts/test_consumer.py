"""InferenceConsumer: the base of a contract that asks, seen through DigitReader, which inherits it."""

import pytest
from conftest import PENDING, answered, failed, id_in, make_answer, make_cid, reverts

RESULT, ANSWER = make_cid("result"), make_answer(7, 9876)


@pytest.fixture
def asked(reader, person, deadline):
    """The id of an open request of the contract."""
    return id_in(reader.ask(make_cid("a seven"), deadline, {"from": person, "value": reader.price()}))


def test_it_knows_its_coordinator(reader, coordinator):
    assert reader.coordinator() == coordinator


# fulfillInference, isOpen


def test_a_request_is_open_until_it_is_answered(reader, asked, report):
    assert reader.isOpen(asked)
    report(answered(asked))
    assert not reader.isOpen(asked)


def test_only_the_coordinator_calls_back(reader, stranger, asked):
    with reverts("NotCoordinator", stranger):
        reader.fulfillInference(asked, RESULT, ANSWER, {"from": stranger})


def test_a_request_it_never_made_is_refused(reader, coordinator, accounts):
    impostor = accounts.at(coordinator.address, force=True)
    with reverts("UnknownRequest", b"\x11" * 32):
        reader.fulfillInference(b"\x11" * 32, RESULT, ANSWER, {"from": impostor})


def test_an_answer_is_taken_once(reader, coordinator, accounts, asked, report):
    report(answered(asked))
    impostor = accounts.at(coordinator.address, force=True)
    with reverts("UnknownRequest", asked):
        reader.fulfillInference(asked, RESULT, ANSWER, {"from": impostor})


# reclaim


def test_the_money_of_a_failed_request_goes_to_its_asker(reader, person, stranger, asked, report):
    before = person.balance()
    report(failed(asked))
    event = reader.reclaim(asked, {"from": stranger}).events["Reclaimed"]
    assert (event["payer"], event["amount"]) == (person, reader.price())
    assert person.balance() - before == reader.price()
    assert not reader.isOpen(asked)


def test_and_that_of_one_that_nobody_answered(reader, person, stranger, deadline, asked, wait_until):
    before = person.balance()
    wait_until(deadline + 1)
    reader.reclaim(asked, {"from": stranger})
    assert person.balance() - before == reader.price()


def test_nothing_is_paid_back_twice(reader, person, asked, report):
    report(failed(asked))
    reader.reclaim(asked, {"from": person})
    with reverts("UnknownRequest", asked):
        reader.reclaim(asked, {"from": person})


def test_while_an_answer_may_come_nothing_is_paid_back(reader, person, deadline, asked):
    with reverts("NotRefundable", asked, PENDING, deadline):
        reader.reclaim(asked, {"from": person})


# owed, withdraw


@pytest.fixture
def refuser(EtherRefuser, reader, coordinator, owner, accounts, web3, deadline, report):
    """A contract that asked, whose request failed, and that did not take its money back."""
    account = accounts.at(owner.deploy(EtherRefuser, coordinator).address, force=True)
    web3.provider.make_request("anvil_setBalance", [account.address, hex(10**18)])
    request_id = id_in(reader.ask(make_cid("a seven"), deadline, {"from": account, "value": reader.price()}))
    report(failed(request_id))
    reader.reclaim(request_id, {"from": owner})
    return account


def test_money_that_is_not_taken_is_owed_and_can_be_fetched_elsewhere(reader, refuser, stranger):
    assert reader.owed(refuser) == reader.price()
    before = stranger.balance()
    reader.withdraw(stranger, {"from": refuser})
    assert stranger.balance() - before == reader.price()
    assert reader.owed(refuser) == 0


def test_a_receiver_that_takes_no_ether_leaves_it_owed(reader, refuser):
    with reverts("PaymentRefused", refuser, reader.price()):
        reader.withdraw(refuser, {"from": refuser})
    assert reader.owed(refuser) == reader.price()


def test_who_is_owed_nothing_gets_nothing(reader, stranger):
    with reverts("NothingOwed", stranger):
        reader.withdraw(stranger, {"from": stranger})
