"""The roles of the story as fixtures, and the few words the tests are written in.

Every test starts from the same chain: a coordinator with one operator, one published model priced in ether and one
priced in a token. Custom errors are awaited by name and values: ``with reverts("NotOperator", stranger): ...``.
"""

import hashlib

import brownie
import pytest
from eth_account import Account
from eth_keys import keys

ETHER = brownie.ZERO_ADDRESS  # where a token is named, the zero address stands for ether
PRICE = 10**15  # wei
TOKEN_PRICE = 3 * 10**18  # of a token with 18 decimals
HOUR = 3600
CANCEL_WINDOW = 60  # seconds

UNKNOWN, PENDING, FULFILLED, CALLBACK_FAILED, FAILED, REFUNDED, CANCELLED = range(7)
NO_FAILURE, IMAGE_UNREADABLE = 0, 3


def make_cid(content):
    """A CID of version 1, codec raw."""
    return b"\x01\x55\x12\x20" + hashlib.sha256(content.encode()).digest()


def make_answer(class_index, confidence_bps):
    """The answer word with one class."""
    head = bytes((1, 1, 1, 0))
    return (head + class_index.to_bytes(2, "big") + confidence_bps.to_bytes(2, "big")).ljust(32, b"\0")


def answered(request_id, digit=7):
    """An item of a report: an answer."""
    return (request_id, NO_FAILURE, make_cid("result"), make_answer(digit, 9876))


def failed(request_id, reason=IMAGE_UNREADABLE):
    """An item of a report: no answer, and why."""
    return (request_id, reason, b"", b"")


def reverts(name, *values):
    """Awaits a custom error with its values."""

    def shown(value):
        return value.address.lower() if hasattr(value, "address") else str(value)

    return brownie.reverts(f"{name}: {', '.join(map(shown, values))}")


def id_in(tx):
    """The id of the request that a transaction made, as bytes."""
    return bytes(tx.events["InferenceRequested"]["requestId"])


def ids_in(tx):
    """The ids of all requests that a transaction made."""
    return [bytes(event["requestId"]) for event in tx.events["InferenceRequested"]]


def terms_in(tx, content="picture"):
    """The terms of the request that a transaction made: its event and its block say all of them."""
    event = tx.events["InferenceRequested"]
    return (
        event["nonce"], event["modelId"], make_cid(content),
        event["payment"], event["callbackGas"], event["deadline"], tx.timestamp,
    )


def sign_permit(token, signer, spender, value, deadline):
    """A permit of ERC-2612 by which ``spender`` may take ``value``: deadline, v, r, s."""
    fields = [("owner", "address"), ("spender", "address")]
    fields += [(name, "uint256") for name in ("value", "nonce", "deadline")]
    signed = Account.sign_typed_data(
        signer.private_key,
        {"name": "Plain Token", "version": "1", "chainId": brownie.chain.id, "verifyingContract": token.address},
        {"Permit": [{"name": name, "type": kind} for name, kind in fields]},
        {
            "owner": signer.address, "spender": spender.address, "value": value,
            "nonce": token.nonces(signer), "deadline": deadline,
        },
    )
    return deadline, signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def sign_compact(signer, digest):
    """A signature over a hash in the form of ERC-2098: r, and s with the parity in its highest bit."""
    signature = keys.PrivateKey(bytes.fromhex(signer.private_key[2:])).sign_msg_hash(bytes(digest))
    return signature.r.to_bytes(32, "big"), (signature.s | signature.v << 255).to_bytes(32, "big")


@pytest.fixture(autouse=True)
def isolation(fn_isolation):
    """Whatever a test does to the chain is undone after it."""


# ----------------------------------------------------------------------------------------------------------------------
# Roles
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def owner(accounts):
    return accounts[0]


@pytest.fixture(scope="session")
def operator(accounts):
    return accounts[1]


@pytest.fixture(scope="session")
def publisher(accounts):
    return accounts[2]


@pytest.fixture(scope="session")
def payout(accounts):
    return accounts[3]


@pytest.fixture(scope="session")
def person(accounts):
    return accounts[4]


@pytest.fixture(scope="session")
def stranger(accounts):
    return accounts[5]


@pytest.fixture(scope="session")
def holder(accounts):
    """A person who holds tokens and signs permits: the tests know their key."""
    return accounts.add("0x" + "a1" * 32)


@pytest.fixture(scope="session")
def signers(accounts):
    """Three operators whose keys the tests know, in rising order of their addresses."""
    return sorted((accounts.add("0x" + digit * 32) for digit in ("b1", "b2", "b3")), key=lambda a: int(a.address, 16))


# ----------------------------------------------------------------------------------------------------------------------
# Contracts
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coordinator(InferenceCoordinator, owner, operator):
    return owner.deploy(InferenceCoordinator, owner, [operator], 1, CANCEL_WINDOW)


@pytest.fixture(scope="module")
def model(coordinator, publisher, payout):
    """The id of a model priced in ether."""
    fee = coordinator.publishingFee()
    coordinator.publishModel(make_cid("manifest"), PRICE, ETHER, payout, {"from": publisher, "value": fee})
    return coordinator.modelCount()


@pytest.fixture(scope="module")
def token(PlainToken, owner, holder):
    """An ERC-20 with permits; the holder has a hundred predictions' worth of it."""
    deployed = owner.deploy(PlainToken, 18)
    deployed.mint(holder, 100 * TOKEN_PRICE, {"from": owner})
    return deployed


@pytest.fixture(scope="module")
def token_model(coordinator, token, model, publisher, payout):
    """The id of a model priced in the token."""
    fee = coordinator.publishingFee()
    coordinator.publishModel(make_cid("manifest"), TOKEN_PRICE, token, payout, {"from": publisher, "value": fee})
    return coordinator.modelCount()


@pytest.fixture(scope="module")
def reader(DigitReader, coordinator, model, owner):
    """The example consumer contract."""
    return owner.deploy(DigitReader, coordinator, model)


# ----------------------------------------------------------------------------------------------------------------------
# What happens
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def deadline(chain):
    # From a block and not from chain.time(): undoing a test leaves the two clocks apart.
    chain.mine()
    return chain[-1].timestamp + HOUR


@pytest.fixture
def wait_until(chain):
    """Lets the chain's clock reach a moment, in Unix seconds."""

    def jump(moment):
        for _ in range(3):
            if chain[-1].timestamp >= moment:
                return
            chain.sleep(moment - chain[-1].timestamp)
            chain.mine()
        raise AssertionError("the chain's clock does not move")

    return jump


@pytest.fixture
def ask_tx(coordinator, model, person, deadline):
    """Makes a request as a person and gives the transaction."""

    def make(content="picture", callback_gas=0):
        payment = coordinator.quote(model, callback_gas)
        return coordinator.request(
            model, make_cid(content), callback_gas, deadline, {"from": person, "value": payment}
        )

    return make


@pytest.fixture
def ask(ask_tx):
    """Makes a request as a person and gives its id."""
    return lambda *arguments: id_in(ask_tx(*arguments))


@pytest.fixture
def report(coordinator, operator):
    """Reports items as the operator."""
    return lambda *items: coordinator.report(items, {"from": operator})


@pytest.fixture
def status_of(coordinator):
    return lambda request_id: coordinator.requestOf(request_id)["status"]
