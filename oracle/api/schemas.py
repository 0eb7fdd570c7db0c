"""The shapes of the answers, for the documentation and for the tests; what is sent is made by ``shapes``.

Money is a decimal string of smallest parts, times are Unix seconds, ids and hashes 0x-hex, CIDs text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$", examples=["0x" + "5c" * 32])]
EXAMPLE_ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$", examples=[EXAMPLE_ADDRESS])]
Hexes = Annotated[str, Field(pattern=r"^0x([0-9a-f]{2})*$")]
CidText = Annotated[str, Field(examples=["bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"])]
Money = Annotated[str, Field(pattern=r"^[0-9]+$", examples=["100000000000000"])]
Glm = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", examples=["0.0001"])]
Status = Literal[
    "seen", "orphaned", "confirmed", "ready", "computing", "computed", "failed", "posting",
    "fulfilled", "rejected", "expired", "refunded", "cancelled",
]  # fmt: skip


class Shape(BaseModel):
    """Base of all: no field that is not named here."""

    model_config = ConfigDict(extra="forbid")


class ProblemShape(Shape):
    """An error (RFC 9457)."""

    type: str = Field(examples=["/problems/unknown-request"])
    title: str = Field(examples=["No such request"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["the oracle has not seen this request"])
    remedy: str = Field(examples=["Check the id; a new request shows up once its block was scanned."])
    request_id: str | None = Field(None, examples=["5f0c2a9b-1c"])


class Currency(Shape):
    """The chain's own coin."""

    symbol: str = Field(examples=["ETH"])
    decimals: int = Field(examples=[18])


class Gateway(Shape):
    """Who pays for those who have no wallet: for everybody when ``open``, else for holders of a key."""

    open: bool
    address: Address | None


class Limits(Shape):
    """What pictures may be."""

    image_bytes: int = Field(examples=[16777216])
    image_pixels: int = Field(examples=[40000000])
    formats: list[str] = Field(examples=[["PNG", "JPEG", "WEBP", "GIF"]])


class Config(Shape):
    """The deployment that this API speaks for."""

    name: Literal["sibyl"]
    version: str = Field(examples=["0.1.0"])
    chain_id: int = Field(examples=[31337])
    chain_name: str = Field(examples=["Local chain"])
    currency: Currency
    coordinator: Address
    start_block: int = Field(examples=[1])
    default_model: int | None = Field(examples=[1])
    rpc_url: str | None = Field(examples=["http://127.0.0.1:8545"])
    explorer_url: str | None = Field(examples=[None])
    cancel_window: int = Field(examples=[0])
    confirmations: int = Field(examples=[3])
    backend: str = Field(examples=["golem"])
    gateway: Gateway
    gateways: list[str] = Field(description="IPFS gateways that have content, too", examples=[["https://ipfs.example"]])
    limits: Limits


class DatabaseHealth(Shape):
    """``scanned``: the last block looked at; ``age_s``: how long ago that was mined."""

    ok: bool
    scanned: int | None
    age_s: float | None


class ChainHealth(Shape):
    """The RPC endpoint."""

    ok: bool
    head: int | None


class ContentHealth(Shape):
    """The IPFS node."""

    ok: bool


class Health(Shape):
    """What this API leans on."""

    ok: bool
    database: DatabaseHealth
    chain: ChainHealth
    content: ContentHealth


class Model(Shape):
    """A model of the registry. ``problem`` says why its manifest is not known; then its fields are empty.

    ``usual_seconds``: median from seen to fulfilled of the newest answers.
    """

    id: int = Field(examples=[1])
    name: str = Field(examples=["mnist-cnn"])
    task: str = Field(examples=["classification"])
    engine: str = Field(examples=["keras"])
    description: str
    price: Money
    token: Address | None
    token_symbol: str = Field(examples=["ETH"])
    token_decimals: int | None = Field(examples=[18])
    active: bool
    payout: Address
    share_bps: int = Field(examples=[1000])
    manifest_cid: CidText
    weights_cid: str | None
    weights_sha256: str
    weights_bytes: int | None
    classes: int = Field(examples=[10])
    licence: str = Field(examples=["MIT"])
    familiarity: bool
    comparison: str = Field(examples=["tolerance"])
    usual_seconds: float | None = Field(examples=[1.2])
    answered: int = Field(examples=[42])
    example: bool
    problem: str


class ModelDetail(Model):
    """A model with its whole manifest."""

    manifest: dict[str, Any] | None


class Models(Shape):
    """Every model."""

    items: list[Model]
    next: None


class ProviderPrice(Shape):
    """In GLM: for a start, a second, a second of one processor."""

    start: Glm
    second: Glm
    cpu_second: Glm


class Provider(Shape):
    """A provider of the compute market. ``good``, ``failed`` and ``lied`` count tasks, older ones for less.

    ``picture_glm``: what one picture should cost, without the start.
    """

    id: str = Field(examples=["0x2f1a0b1c2d3e4f5061728394a5b6c7d8e9f00112"])
    name: str
    price: ProviderPrice
    picture_glm: Glm | None
    threads: int
    images_per_second: float | None
    load_seconds: float | None
    good: float
    failed: float
    lied: float
    reputation: float = Field(ge=0, le=1)
    reasons: list[str]
    standing: str
    blocked_until: float | None
    first_seen: float
    last_seen: float


class Providers(Shape):
    """Every provider ever seen, the last seen first."""

    items: list[Provider]
    next: None


class Quote(Shape):
    """What pictures cost now: each, and all together, in the model's token; gas of the asking transaction."""

    model: int = Field(examples=[1])
    callback_gas: int = Field(examples=[0])
    pictures: int = Field(examples=[1])
    payment: Money
    total: Money
    token: Address | None
    gas_estimate: int = Field(examples=[60000])
    usual_seconds: float | None


class Image(Shape):
    """What the check of the picture learnt."""

    format: str = Field(examples=["PNG"])
    width: int
    height: int
    bytes: int


class Top(Shape):
    """The answer in a few words: the best label, or how many there are of each; confidence 0 to 1."""

    label: str = Field(examples=["7"])
    confidence: float


class Failure(Shape):
    """Why it cannot be answered."""

    reason: str = Field(examples=["image_unreadable"])
    text: str


class Move(Shape):
    """One step of a request."""

    at: float
    status: Status
    detail: str


class Timeline(Shape):
    """Every step of a request, the first first."""

    items: list[Move]


class Request(Shape):
    """A request: what was asked, where it stands, what came of it."""

    id: Id
    status: Status
    model: int
    model_name: str
    requester: Address
    image_cid: CidText
    image: Image | None
    payment: Money
    token: Address | None
    callback_gas: int
    deadline: float
    created_at: float
    block: int
    transaction: Id
    provider: str
    provider_name: str
    result_cid: str | None
    answer: Hexes | None
    top: Top | None
    failure: Failure | None
    detail: str
    report_transaction: Id | None
    nonce: int
    refundable_at: float
    timeline: list[Move]


class Requests(Shape):
    """Some requests, newest first; ``next`` is the cursor of the page that follows."""

    items: list[Request]
    next: str | None


class HourCount(Shape):
    """Answers in the hour that begins at a time."""

    at: float
    count: int


class ModelFigures(Shape):
    """Seconds from seen to fulfilled of a model's answers; ``box``: least, quartiles, most."""

    model: int
    name: str
    count: int
    median_s: float
    p90_s: float
    box: list[float] = Field(min_length=5, max_length=5)


class Point(Shape):
    """One answered request."""

    id: Id
    model: int
    provider: str
    bytes: int
    pixels: int
    compute_s: float | None
    total_s: float
    at: float


class Stats(Shape):
    """What a span of time came to; ``queue`` is as of now. ``by_model`` counts the newest 5,000 answers, ``points``
    are the newest 1,000.
    """

    requests: dict[Status, int]
    success_rate: float | None
    queue: int
    throughput_per_hour: list[HourCount]
    by_model: list[ModelFigures]
    points: list[Point]


class Pinned(Shape):
    """A picture that was checked and pinned."""

    cid: CidText
    bytes: int = Field(examples=[48213])
    format: str = Field(examples=["JPEG"])
    width: int = Field(examples=[640])
    height: int = Field(examples=[480])


class PinnedManifest(Shape):
    """A manifest that was checked and pinned."""

    cid: CidText


class PinnedWeights(Shape):
    """Weights that were pinned."""

    cid: CidText
    bytes: int = Field(examples=[214563])
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Wish(Shape):
    """Which provider shall compute a picture that an account is about to ask about: node id or name; empty takes back
    what was said before.

    The account signs it as typed data (EIP-712): domain `{name: "Sibyl", version: "1", chainId, verifyingContract}`,
    primary type `Wish(address requester,string image,string provider,uint256 signedAt)`. What a contract takes for a
    signature of its own (ERC-1271) counts, too.
    """

    requester: Address
    image_cid: str = Field(max_length=200, examples=["bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"])
    provider: str = Field(max_length=100, examples=["oak-3"])
    signed_at: int = Field(ge=0, lt=2**53, description="Unix seconds.", examples=[1_764_230_400])
    signature: str = Field(pattern=r"^0x([0-9a-fA-F]{2}){1,2048}$", examples=["0x" + "5c" * 65])


class Question(Shape):
    """What the gateway shall ask: a model by number or name, a pinned picture, a provider if it shall be that one."""

    model: Annotated[int, Field(ge=1, lt=2**63)] | Annotated[str, Field(min_length=1, max_length=100)] = Field(
        examples=[1]
    )
    image_cid: str = Field(max_length=200, examples=["bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"])
    provider: str | None = Field(None, min_length=1, max_length=100, examples=[None])


class Asked(Shape):
    """A request that the gateway paid for."""

    id: Id
    transaction: Id
    payment: Money
    model: int = Field(examples=[1])
    image_cid: CidText


class PredictionAsked(Shape):
    """A request that the gateway paid for, in the fewest words."""

    request_id: Id
    status_url: str = Field(examples=["/readPrediction/0x" + "5c" * 32])
    payment: Money
    image_cid: CidText


class Prediction(Shape):
    """One label with its probability, or one segment with its score, its box (x, y, width, height) and pixels."""

    label: str = Field(examples=["7"])
    probability: float | None = Field(None, ge=0, le=1, examples=[0.9987])
    score: float | None = Field(None, ge=0, le=1)
    box: list[float] | None = None
    area: int | None = None


class Predictions(Shape):
    """Where a request stands, and its predictions once it is answered."""

    request_id: Id
    status: Status
    model: str = Field(examples=["mnist-cnn"])
    predictions: list[Prediction] | None
    failure: Failure | None
    result_cid: str | None
    links: dict[str, str]
