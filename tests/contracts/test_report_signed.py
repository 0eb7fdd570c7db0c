"""reportSigned, reportDigest, eip712Domain: k of n operators sign a report, and anyone sends it."""

import brownie
import pytest
from conftest import CANCEL_WINDOW, ETHER, FULFILLED, PRICE, answered, id_in, make_cid, reverts, sign_compact
from eth_abi import encode
from eth_account.messages import _hash_eip191_message, encode_typed_data

TYPES = {"Report": [{"name": "operator", "type": "address"}, {"name": "items", "type": "bytes"}]}


def encoded(*items):
    """The items as one string of bytes, as they are signed and sent."""
    return encode(["(bytes32,uint8,bytes,bytes)[]"], [items])


@pytest.fixture
def shared(InferenceCoordinator, owner, signers):
    """A coordinator at which two of three operators must sign, with one model."""
    coordinator = owner.deploy(InferenceCoordinator, owner, signers, 2, CANCEL_WINDOW)
    coordinator.publishModel(make_cid("manifest"), PRICE, ETHER, owner, {"from": owner})
    return coordinator


@pytest.fixture
def request_id(shared, person, deadline):
    tx = shared.request(1, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE})
    return id_in(tx)


@pytest.fixture
def items(request_id):
    """A report about one request."""
    return encoded(answered(request_id))


def signed_by(shared, items, operator, *signers):
    digest = shared.reportDigest(items, operator)
    return [sign_compact(signer, digest) for signer in signers]


def test_anyone_sends_what_enough_operators_signed(shared, request_id, items, signers, stranger):
    signatures = signed_by(shared, items, signers[2], signers[0], signers[1])
    shared.reportSigned(items, signers[2], signatures, {"from": stranger})
    assert shared.requestOf(request_id)["status"] == FULFILLED
    assert shared.balanceOf(ETHER, signers[2]) == PRICE * 7 // 10


def test_the_digest_is_that_of_any_wallet(shared, items, signers, chain):
    _, name, version, chain_id, contract, _, _ = shared.eip712Domain()
    assert (chain_id, contract) == (chain.id, shared)
    domain = {"name": name, "version": version, "chainId": chain_id, "verifyingContract": contract}
    message = {"operator": signers[0].address, "items": items}
    expected = _hash_eip191_message(encode_typed_data(domain, TYPES, message))
    assert bytes(shared.reportDigest(items, signers[0])) == expected


def test_sent_twice_it_changes_nothing(shared, items, signers, stranger):
    signatures = signed_by(shared, items, signers[0], signers[0], signers[1])
    shared.reportSigned(items, signers[0], signatures, {"from": stranger})
    again = shared.reportSigned(items, signers[0], signatures, {"from": stranger})
    assert again.events["FulfilmentSkipped"]["status"] == FULFILLED
    assert shared.balanceOf(ETHER, signers[0]) == PRICE * 7 // 10


def test_one_signature_is_not_two(shared, items, signers, stranger):
    with reverts("QuorumNotMet", 1, 2):
        shared.reportSigned(items, signers[0], signed_by(shared, items, signers[0], signers[0]), {"from": stranger})


def test_nobody_signs_twice(shared, items, signers, stranger):
    twice = signed_by(shared, items, signers[0], signers[0], signers[0])
    with reverts("SignersNotRising", signers[0], signers[0]):
        shared.reportSigned(items, signers[0], twice, {"from": stranger})


def test_a_stranger_signs_nothing(shared, items, signers, holder, stranger):
    signatures = signed_by(shared, items, signers[0], signers[0], holder)
    with reverts("NotOperator", holder):
        shared.reportSigned(items, signers[0], signatures, {"from": stranger})


def test_the_payee_is_part_of_what_is_signed(shared, items, signers, stranger):
    signatures = signed_by(shared, items, signers[0], signers[0], signers[1])
    # With another payee the signatures belong to other accounts, which are no operators.
    with brownie.reverts(revert_pattern="NotOperator: .*"):
        shared.reportSigned(items, signers[1], signatures, {"from": stranger})


def test_bytes_that_are_no_items_are_refused(shared, signers, stranger):
    signatures = signed_by(shared, b"no items", signers[0], signers[0], signers[1])
    with reverts("ItemsMalformed", 8):
        shared.reportSigned(b"no items", signers[0], signatures, {"from": stranger})


def test_a_payee_who_is_no_operator_is_refused(shared, items, signers, stranger):
    signatures = signed_by(shared, items, stranger, signers[0], signers[1])
    with reverts("NotOperator", stranger):
        shared.reportSigned(items, stranger, signatures, {"from": stranger})
