"""requestIdOf, nextNonce: the id commits to everything that was asked, so anyone can prove what that was."""

import pytest
from conftest import id_in, terms_in
from eth_abi import encode
from eth_utils import keccak

TYPES = ["uint256", "address", "address", "uint256", "uint256", "bytes", "uint256", "uint256", "uint256", "uint256"]


def test_it_is_the_hash_of_chain_coordinator_requester_and_terms(coordinator, person, chain, ask_tx):
    tx = ask_tx("picture", 10_000)
    expected = keccak(encode(TYPES, [chain.id, coordinator.address, person.address, *terms_in(tx)]))
    assert id_in(tx) == expected == bytes(coordinator.requestIdOf(person, terms_in(tx)))


@pytest.mark.parametrize("changed", range(7))
def test_any_other_term_gives_another_id(coordinator, person, ask_tx, changed):
    tx = ask_tx()
    terms = list(terms_in(tx))
    terms[changed] = b"\0" + terms[changed] if isinstance(terms[changed], bytes) else terms[changed] + 1
    assert bytes(coordinator.requestIdOf(person, terms)) != id_in(tx)


def test_a_nonce_is_used_once(coordinator, ask):
    first = coordinator.nextNonce()
    ask()
    assert coordinator.nextNonce() == first + 1
