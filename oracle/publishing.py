"""A model's way into the registry: completed, tried out, pinned, published; its publisher's account signs here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from oracle.catalogue import (
    MANIFEST,
    PACKAGES,
    Bringer,
    CatalogueError,
    FileFacts,
    Report,
    WeightsRefused,
    facts_of,
    families,
    family_of,
    written,
)
from oracle.chain.account import AccountSender
from oracle.chain.deployment import account_of, fee_policy
from oracle.client import Client, connect
from oracle.content.download import PATIENCE, Patience
from oracle.content.ipfs import IpfsContentStore
from oracle.content.unixfs import cid_of
from oracle.domain import Cid, ModelManifest, OnChainModel
from oracle.errors import ManifestInvalid, MissingTool, SibylError
from oracle.manifests import MAX_BYTES, read_manifest
from oracle.ports import ContentStore
from oracle.settings import Settings

if TYPE_CHECKING:
    from provider_images.runtime.dry_run import DryRun

T = TypeVar("T")

GWEI = 10**9
MOST_PICTURES = 16  # of one trial: a batch
_MEMORY_MB = 4096  # for a trial, unless the manifest says that more is needed
_SECONDS = 300  # for a trial; the largest networks take a minute to be built


class ModelRefused(CatalogueError):
    """The model does not do what its manifest says, or is of a kind that is not accepted."""


class ManifestMismatch(CatalogueError):
    """The manifest speaks of other weights than the file that came with it."""


class PriceRefused(CatalogueError):
    """The coordinator takes no such price."""


class Registry(Protocol):
    """Where models are published."""

    async def models(self) -> Sequence[OnChainModel]:
        """All that are."""

    async def publish(self, manifest: Cid, price: int, token: str | None) -> int:
        """Publish a manifest at a price (wei, or smallest parts of a token); the model's number."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A model that may be published: its manifest as it will be pinned, and its weights."""

    manifest: ModelManifest
    data: bytes
    weights: Path
    facts: FileFacts

    @property
    def cid(self) -> Cid:
        """The manifest's CID."""
        return cid_of(self.data)


@dataclass(frozen=True, slots=True)
class Publication:
    """What came of it: ``number`` is the model's, None where it was not to be published; ``already`` says that it was
    before; ``trial`` is None where an earlier publication made one unnecessary.
    """

    draft: Draft
    number: int | None
    already: bool
    trial: DryRun | None


# ---------------------------------------------------------------------------------------------------------------
# One step each
# ---------------------------------------------------------------------------------------------------------------


def complete(raw: bytes, facts: FileFacts) -> bytes:
    """A manifest with its weights' bytes, CID and sha256 filled in where they are left out; else as it is.

    Raises ManifestMismatch when they are there and say something else, ManifestInvalid when it is no manifest.
    """
    if len(raw) > MAX_BYTES:
        raise ManifestInvalid(f"manifest: {len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        body = json.loads(raw, object_pairs_hook=_refuse_twins)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"manifest: not JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("weights", {}), dict):
        raise ManifestInvalid("manifest: an object with an object `weights` expected")
    stated, actual = body.get("weights", {}), {"bytes": facts.size, "cid": facts.cid.text, "sha256": facts.sha256}
    for field, value in actual.items():
        if field in stated and stated[field] != value:
            raise ManifestMismatch(
                f"weights.{field}: the manifest states {stated[field]!r}, the file has {value!r}",
                remedy="Give the file that the manifest speaks of. Left out, bytes, cid and sha256 are filled in.",
            )
    if actual.keys() <= stated.keys():
        return raw
    return written({**body, "weights": {**stated, **actual}})


def draft_of(raw: bytes, weights: Path, facts: FileFacts) -> Draft:
    """A manifest and its weights as one. Raises ManifestInvalid, which names the field, and ManifestMismatch."""
    data = complete(raw, facts)
    return Draft(read_manifest(data), data, weights, facts)


async def try_out(draft: Draft, pictures: Sequence[bytes] = ()) -> DryRun:
    """Have a process with a provider's limits load the model and answer pictures (made ones where none are given).

    Raises ModelRefused with the reason.
    """
    try:
        from provider_images.runtime.dry_run import dry_run
        from provider_images.runtime.engines import ModelError
    except ModuleNotFoundError as error:
        raise MissingTool(
            f"{error.name} is not installed, which models need", remedy="Install what runs models: `make setup`."
        ) from error
    document = draft.manifest.document
    needed = document["resources"].get("memory_mb")
    memory = max(_MEMORY_MB, needed) if type(needed) is int else _MEMORY_MB

    def work() -> DryRun:
        return dry_run(document, draft.weights, pictures=pictures, memory_mb=memory, seconds=_SECONDS)

    try:
        return await _beside(work)
    except ModelError as error:
        raise ModelRefused(
            f"{draft.manifest.name} is not accepted: {error}",
            remedy="Nothing was published. docs/models.md says what a model may be and what its manifest must say.",
        ) from error


async def pin(draft: Draft, content: ContentStore) -> None:
    """Store weights and manifest on the IPFS node. Raises ContentUnavailable, ContentCorrupt."""
    await content.add_file(draft.weights)
    await content.add([draft.data])


def check_price(price: int, token: str | None) -> None:
    """Raises PriceRefused for ether that is not whole gwei."""
    if token is None and price % GWEI:
        raise PriceRefused("a price in ether has nine decimals at most", remedy="Give whole gwei, such as 0.000000001.")


async def finish(
    draft: Draft,
    *,
    content: ContentStore,
    registry: Registry | None,
    price: int,
    token: str | None,
    report: Report,
    keep: Path | None = None,
) -> Publication:
    """Try a draft out, write its manifest to ``keep``, pin both files, publish it unless ``registry`` holds it already.

    Raises what the steps raise; whatever was done stays done, and doing it again does no harm.
    """
    known = None
    for model in await registry.models() if registry is not None else ():
        if model.manifest_cid == draft.cid:
            known = model.model_id
    trial = None
    if known is None:
        report.note("trying the model out, in a process with a provider's limits")
        trial = await try_out(draft)
    if keep is not None:
        _write(keep, draft.data)
    report.note("pinning weights and manifest")
    await pin(draft, content)
    if registry is None or known is not None:
        return Publication(draft, known, known is not None, trial)
    report.note(f"publishing the manifest {draft.cid}")
    return Publication(draft, await registry.publish(draft.cid, price, token), False, trial)


class ChainRegistry:
    """The registry of a deployment's coordinator, with the publisher's key of the settings."""

    def __init__(self, client: Client, report: Report) -> None:
        self._client, self._report = client, report

    async def models(self) -> Sequence[OnChainModel]:
        """All models. Raises RpcUnavailable."""
        return await self._client.reader.models()

    async def publish(self, manifest: Cid, price: int, token: str | None) -> int:
        """Publish a manifest; the model's number. Raises ConfigurationError without a key, ChainError."""
        client = self._client
        account = account_of("publisher", client.settings)
        chain_id = await client.reader.chain_id()
        sender = AccountSender(client.rpc, account, chain_id, fee_policy(client.settings))
        try:
            return await sender.publish_model(client.reader.address, manifest, price, token=token)
        except asyncio.CancelledError:
            if sender.sent:
                self._report.note(f"interrupted; it may yet be published by 0x{sender.sent[-1].hex()}")
            raise


# ---------------------------------------------------------------------------------------------------------------
# What the commands do
# ---------------------------------------------------------------------------------------------------------------


async def pull(
    settings: Settings,
    name: str,
    *,
    report: Report,
    source: str | None = None,
    out: Path | None = None,
    price: int,
    publish: bool = True,
    patience: Patience = PATIENCE,
) -> Publication:
    """Bring a family's official weights (or ``source``, a path or a CID) into ``out``, and publish it at ``price`` wei.

    Raises SibylError's leaves, each with a remedy: UnknownFamily, WeightsMissing, WeightsRefused, ModelRefused, what
    the IPFS node and the chain raise. Weights that came once are not brought again.
    """
    check_price(price, None)
    family = family_of(name)
    folder = out or settings.data_dir / "models" / family.name
    async with _content(settings) as content:
        bringer = Bringer(content, settings.weights_max_bytes, report, patience)
        weights, facts = await bringer.bring(family, folder, source)
        draft = draft_of(family.manifest(facts), weights, facts)
        keep = folder / MANIFEST
        try:
            async with _registry(settings, report, publish) as registry:
                return await finish(
                    draft, content=content, registry=registry, price=price, token=None, report=report, keep=keep
                )
        except ModelRefused:
            if not family.digest:
                # Nothing vouched for the file, so the next pull shall not take it for the right one.
                weights.unlink(missing_ok=True)
            raise


async def check(manifest: Path, weights: Path, pictures: Sequence[Path]) -> tuple[Draft, DryRun]:
    """Read a manifest, and have its model answer pictures. Raises ModelRefused, OSError, and what ``draft_of`` does."""
    if len(pictures) > MOST_PICTURES:
        raise ModelRefused(f"{len(pictures)} pictures at once", remedy=f"Give {MOST_PICTURES} at most.")
    draft = await _read(manifest, weights)
    return draft, await try_out(draft, [picture.read_bytes() for picture in pictures])


async def publish(
    settings: Settings, manifest: Path, weights: Path, *, price: int, token: str | None, report: Report
) -> Publication:
    """Publish anyone's model at a price in ether (wei) or in a token's smallest part, once it has been tried out.

    Raises as ``pull`` does, and ManifestInvalid, ManifestMismatch.
    """
    check_price(price, token)
    draft = await _read(manifest, weights)
    if draft.facts.size > settings.weights_max_bytes:
        raise WeightsRefused(
            f"{weights} has {draft.facts.size:,} bytes and {settings.weights_max_bytes:,} are allowed",
            remedy="SIBYL_WEIGHTS_MAX_BYTES allows more, here and where the oracle runs.",
        )
    async with _content(settings) as content, _registry(settings, report, True) as registry:
        return await finish(draft, content=content, registry=registry, price=price, token=token, report=report)


async def name_for_requests(settings: Settings, name: str, number: int) -> str:
    """How ``sibyl request --model`` names a model: by its name where that is clear, else by its number."""
    try:
        async with connect(settings) as client:
            found = await client.model(name)
    except SibylError:
        return str(number)
    return name if found.on_chain.model_id == number and not name.isdigit() else str(number)


def without_image(settings: Settings, manifest: ModelManifest) -> bool:
    """Whether the oracle runs models on Golem and has no provider image for one, so that it refuses requests."""
    if settings.backend != "golem":
        return False
    for file in settings.golem_images.glob("*.json"):
        try:
            image = json.loads(file.read_bytes())
            if image["family"] == manifest.document["family"]:
                return image.get("sealed") is True and manifest.weights_sha256 not in image["weights"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return True


def build_command(settings: Settings, draft: Draft) -> str | None:
    """The command that makes a provider image for a classifier that was pulled; None for another model."""
    folder = draft.weights.parent
    family = families().get(draft.manifest.document["family"])
    if family is None or family.shipped is not None or draft.manifest.task != "classification":
        return None
    if draft.weights.name != family.file or not (folder / MANIFEST).is_file():
        return None
    command = ["python", "-m", "provider_images.builder", "applications", "--model", str(folder)]
    if settings.golem_images.absolute() != PACKAGES.parent / "build" / "images":
        command += ["--out", str(settings.golem_images)]
    return shlex.join(command)


# ---------------------------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------------------------


async def _read(manifest: Path, weights: Path) -> Draft:
    return draft_of(manifest.read_bytes(), weights, await asyncio.to_thread(facts_of, weights))


@asynccontextmanager
async def _content(settings: Settings) -> AsyncIterator[ContentStore]:
    content = IpfsContentStore(settings.ipfs_api)
    try:
        yield content
    finally:
        await content.close()


@asynccontextmanager
async def _registry(settings: Settings, report: Report, wanted: bool) -> AsyncIterator[Registry | None]:
    if not wanted:
        yield None
        return
    async with connect(settings) as client:
        yield ChainRegistry(client, report)


async def _beside(work: Callable[[], T]) -> T:
    """Wait for work in a thread that does not outlive this process: who interrupts it need not wait for its end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if error is not None and not done.done():
            done.set_exception(error)
        elif not done.done():
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = work(), None
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            outcome = None, error
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh.write_bytes(data)
    fresh.replace(path)


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a field stands twice")
    return body
