"""The families of models that are built in, and how their weights come here: official address, a file, or a CID."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from oracle.content.download import PATIENCE, Patience, download
from oracle.content.ipfs import file_cid
from oracle.devnet.locked import locked
from oracle.domain import Cid
from oracle.errors import ContentError, ContentTooLarge, MissingTool, SibylError
from oracle.ports import ContentStore

PACKAGES = Path(__file__).resolve().parents[1] / "provider_images"
SHIPPED = ("mnist", "mask_rcnn")  # packages that hold weights and their manifest
MANIFEST = "manifest.json"
LISTED = 3  # names that an error proposes
CID_SECONDS = 7200.0  # for weights that other nodes of IPFS may have to bring

_SUFFIXES = {"hdf5": ".h5", "safetensors": ".safetensors", "npz-float16": ".npz"}
_HEADS = {"hdf5": b"\x89HDF\r\n\x1a\n", "npz-float16": b"PK"}  # how a file of a format begins


class CatalogueError(SibylError):
    """Base of what goes wrong between a model and its publication."""


class UnknownFamily(CatalogueError):
    """No family of this name is built in."""


class WeightsMissing(CatalogueError):
    """The weights could not be had from where they were looked for."""


class WeightsRefused(CatalogueError):
    """The file is not the one that its publisher names, or is too large."""


class Report(Protocol):
    """Who hears what goes on."""

    def note(self, text: str) -> None:
        """A step, in words."""

    def watch(self, done: int, total: int | None) -> None:
        """Bytes that came, and how many there will be where that is known."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file is: bytes, digests in hex, and the CID that ``ipfs add`` gives it."""

    size: int
    md5: str
    sha256: str
    cid: Cid


@dataclass(frozen=True, slots=True)
class Family:
    """One family: ``digest`` is its publisher's ("md5:...", "sha256:..." or nothing), ``fill`` writes a manifest for
    weights with a sha256, a size and a CID. Where weights are ``shipped`` in this checkout, the manifest is, too.
    """

    name: str
    url: str
    digest: str
    format: str
    fill: Callable[..., dict[str, Any]]
    shipped: Path | None = None

    @property
    def template(self) -> dict[str, Any]:
        """The manifest, without what only weights tell."""
        return self.fill(sha256="", size=0, cid="")

    def manifest(self, facts: FileFacts) -> bytes:
        """The manifest of these weights. Raises OSError."""
        if self.shipped is not None:
            return self.shipped.with_name(MANIFEST).read_bytes()
        return written(self.fill(sha256=facts.sha256, size=facts.size, cid=facts.cid.text))

    @property
    def file(self) -> str:
        """The name of its weights in a folder of models."""
        return f"weights{_SUFFIXES[self.format]}"

    @property
    def stated(self) -> str:
        """The digest, in words where there is none."""
        return self.digest or "its publisher states no digest"


def families() -> dict[str, Family]:
    """Every family by name, those that are shipped last. Raises MissingTool where what runs models is not installed."""
    try:
        from provider_images.applications.manifests import manifest_of, sources
        from provider_images.mask_rcnn.manifests import COCO_WEIGHTS, coco_manifest
    except ModuleNotFoundError as error:
        raise MissingTool(
            f"{error.name} is not installed, which models need", remedy="Install what runs models: `make setup`."
        ) from error
    found = {
        name: Family(name, source.url, source.digest, source.format, partial(manifest_of, name))
        for name, source in sources().items()
    }
    found["mask-rcnn-coco"] = Family("mask-rcnn-coco", COCO_WEIGHTS, "", "hdf5", coco_manifest)
    for package in SHIPPED:
        manifest = PACKAGES / package / MANIFEST
        if manifest.exists():
            body = json.loads(manifest.read_bytes())
            weights, name = body["weights"], str(body["family"])
            digest, form = f"sha256:{weights['sha256']}", weights.get("format", "npz-float16")
            found[name] = Family(name, "", digest, form, partial(_as_shipped, body), manifest.with_name("weights.npz"))
    return found


def _as_shipped(body: dict[str, Any], **_: object) -> dict[str, Any]:
    return body


def written(document: Mapping[str, Any]) -> bytes:
    """A manifest's bytes: the same for the same document, so that it has one CID."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def family_of(name: str) -> Family:
    """A family by its name, or by its manifest's. Raises UnknownFamily, which names those that are spelt alike."""
    known = families()
    for family in known.values():
        if name in (family.name, family.template["name"]):
            return family
    near = ", ".join(difflib.get_close_matches(name, known, LISTED, 0.5))
    raise UnknownFamily(
        f"there is no family {name!r}",
        remedy=f"{f'Did you mean {near}? ' if near else ''}`sibyl models catalogue` lists them all.",
    )


def is_pulled(family: Family, folder: Path) -> bool:
    """Whether a folder of models holds the family's weights and manifest, or the checkout does."""
    place = folder / family.name
    return family.shipped is not None or ((place / family.file).exists() and (place / MANIFEST).exists())


def facts_of(path: Path) -> FileFacts:
    """Read a file once and say what it is. Raises OSError."""
    with path.open("rb") as file:
        read = _Digested(file)
        cid = file_cid(read)
        return FileFacts(file.tell(), read.md5.hexdigest(), read.sha256.hexdigest(), cid)


class _Digested:
    """A file whose digests are known once it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.md5, self.sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        piece = self._file.read(size)
        self.md5.update(piece)
        self.sha256.update(piece)
        return piece


@dataclass(frozen=True, slots=True)
class Bringer:
    """Brings weights into folders: ``content`` for CIDs, ``limit`` in bytes, ``patience`` with web servers."""

    content: ContentStore
    limit: int
    report: Report
    patience: Patience = PATIENCE

    async def bring(self, family: Family, folder: Path, source: str | None = None) -> tuple[Path, FileFacts]:
        """A family's weights in ``folder``, which is made; what lies there and is right is not brought again.

        ``source`` is a path or a CID to take instead of the official address. Raises WeightsMissing, WeightsRefused,
        ConfigurationError while another process does the same, and OSError.
        """
        if source is None and family.shipped is not None:
            facts = await asyncio.to_thread(facts_of, family.shipped)
            self._check(family, family.shipped, facts)
            self.report.note(f"the weights of {family.name} are in this checkout")
            return family.shipped, facts
        folder.mkdir(parents=True, exist_ok=True)
        taken = f"another process brings {family.name} into {folder}"
        with locked(folder / "lock", taken=taken, remedy="Wait until it is done."):
            return await self._bring(family, folder, source)

    async def _bring(self, family: Family, folder: Path, source: str | None) -> tuple[Path, FileFacts]:
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        target = folder / family.file
        if target.exists() and (source is None or family.digest):
            facts = await asyncio.to_thread(facts_of, target)
            try:
                self._check(family, target, facts)
                _check_manifest(folder / MANIFEST, facts)
            except WeightsRefused as error:
                self.report.note(f"{error}; it is brought again")
            else:
                self.report.note(f"the weights are here: {target}")
                return target, facts
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            await self._write(family, source, part)
            facts = await asyncio.to_thread(facts_of, part)
            self._check(family, part, facts)
            part.chmod(0o644)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        if not family.digest:
            self.report.note(f"its publisher states no digest; what came has sha256 {facts.sha256}")
        return target, facts

    async def _write(self, family: Family, source: str | None, part: Path) -> None:
        if source is None:
            self.report.note(f"fetching {family.url}")
            await self._from(
                family, download(family.url, part, limit=self.limit, patience=self.patience, watch=self.report.watch)
            )
            return
        path = Path(source).expanduser()
        if path.is_file():
            if path.stat().st_size > self.limit:
                raise self._too_large(path, path.stat().st_size)
            await asyncio.to_thread(shutil.copyfile, path, part)
            return
        try:
            cid = Cid.parse(source)
        except ValueError:
            raise WeightsMissing(
                f"{source} is neither a file nor a CID", remedy=f"Give the weights' path, or their CID. {_how(family)}"
            ) from None
        self.report.note(f"fetching {cid} from the IPFS node")
        await self._from(family, self.content.fetch_file(cid, part, limit=self.limit, timeout=CID_SECONDS))

    async def _from(self, family: Family, coming: Awaitable[object]) -> None:
        try:
            await coming
        except ContentTooLarge as error:
            raise WeightsRefused(str(error), remedy=_LARGER) from error
        except ContentError as error:
            remedy = error.remedy or _how(family)
            raise WeightsMissing(f"the weights of {family.name} did not come: {error}", remedy=remedy) from error

    def _check(self, family: Family, path: Path, facts: FileFacts) -> None:
        """Raises WeightsRefused unless the file is what its publisher says, or at least what it has to be."""
        if facts.size > self.limit:
            raise self._too_large(path, facts.size)
        kind, _, wanted = family.digest.partition(":")
        got = {"md5": facts.md5, "sha256": facts.sha256}.get(kind, "")
        if got != wanted:
            raise WeightsRefused(
                f"the file for {family.name} has {kind}:{got}, not {family.digest}, which its publisher states",
                remedy=f"It is another file, or was damaged on its way. {_how(family)}",
            )
        with path.open("rb") as file:
            head = file.read(16)
        begins = _HEADS.get(family.format)
        if not head.startswith(begins or b"") or (family.format == "safetensors" and head[8:9] != b"{"):
            raise WeightsRefused(
                f"the file for {family.name} is not of the format {family.format}",
                remedy=f"Perhaps a web page came instead of the file. {_how(family)}",
            )

    def _too_large(self, path: Path, size: int) -> WeightsRefused:
        return WeightsRefused(f"{path} has {size:,} bytes and {self.limit:,} are allowed", remedy=_LARGER)


_LARGER = "SIBYL_WEIGHTS_MAX_BYTES allows more, here and where the oracle runs."


def _check_manifest(manifest: Path, facts: FileFacts) -> None:
    """Raises WeightsRefused when an earlier pull wrote down another file than the one that is here now."""
    try:
        stated = json.loads(manifest.read_bytes())["weights"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if stated != facts.sha256:
        raise WeightsRefused(f"the weights are not those that {manifest} names")


def _how(family: Family) -> str:
    """How weights come here when this machine cannot fetch them."""
    if family.shipped is not None:
        return f"The checkout ships them: {family.shipped}."
    return (
        f"Where there is internet, fetch {family.url} ({family.stated}); bring the file here, then: "
        f"sibyl models pull {family.name} --from FILE"
    )
