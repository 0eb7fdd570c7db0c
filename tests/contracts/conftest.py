"""The roles of the story as fixtures; every test starts from the same chain."""

import hashlib

import pytest

PRICE = 10**15  # wei
HOUR = 3600

PENDING, FULFILLED, CALLBACK_FAILED, FAILED, REFUNDED = 1, 2, 3, 4, 5
NO_FAILURE, IMAGE_UNREADABLE = 0, 3


def make_cid(content):
    """A CID of version 1, codec raw."""
    return b"\x01\x55\x12\x20" + hashlib.sha256(content.encode()).digest()


def make_answer(class_index, confidence_bps):
    """The answer word with one class."""
    head = bytes((1, 1, 1, 0))
    return (head + class_index.to_bytes(2, "big") + confidence_bps.to_bytes(2, "big")).ljust(32, b"\0")


@pytest.fixture(autouse=True)
def isolation(fn_isolation):
    """Whatever a test does to the chain is undone after it."""


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


@pytest.fixture(scope="module")
def coordinator(InferenceCoordinator, owner, operator):
    deployed = owner.deploy(InferenceCoordinator, owner)
    deployed.setOperator(operator, True, {"from": owner})
    return deployed


@pytest.fixture(scope="module")
def model(coordinator, publisher, payout):
    """The id of a published model."""
    coordinator.publishModel(make_cid("manifest"), PRICE, payout, {"from": publisher})
    return coordinator.modelCount()


@pytest.fixture(scope="module")
def reader(DigitReader, coordinator, model, owner):
    """The example consumer contract."""
    return owner.deploy(DigitReader, coordinator, model)


@pytest.fixture
def deadline(chain):
    # From a block and not from chain.time(): undoing a test leaves the two clocks apart.
    chain.mine()
    return chain[-1].timestamp + HOUR


@pytest.fixture
def ask(coordinator, model, person, deadline):
    """Makes a request as a person and gives its id."""

    def make(content="picture", callback_gas=0):
        tx = coordinator.request(
            model, make_cid(content), callback_gas, deadline,
            {"from": person, "value": coordinator.quote(model, callback_gas)},
        )
        return tx.return_value or tx.events["InferenceRequested"]["requestId"]

    return make


@pytest.fixture
def answer(coordinator, operator):
    """Reports one answer as the operator."""

    def report(request_id, digit=7, confidence_bps=9876):
        item = (request_id, NO_FAILURE, make_cid("result"), make_answer(digit, confidence_bps))
        return coordinator.report([item], {"from": operator})

    return report


@pytest.fixture
def fail(coordinator, operator):
    """Reports that a request cannot be answered."""

    def report(request_id, reason=IMAGE_UNREADABLE):
        return coordinator.report([(request_id, reason, b"", b"")], {"from": operator})

    return report


@pytest.fixture
def pass_deadline(chain, deadline):
    """Lets the deadline pass."""

    def jump():
        for _ in range(3):
            chain.sleep(HOUR + 1)
            chain.mine()
            if chain[-1].timestamp > deadline:
                return
        raise AssertionError("the chain's clock does not move")

    return jump
