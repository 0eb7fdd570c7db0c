"""From a recipe to an image and its descriptor."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provider_images.builder.debian import Packages
from provider_images.builder.descriptor import BuiltImage, read_descriptor
from provider_images.builder.errors import BuilderError
from provider_images.builder.gvmi import append_trailer, container_config
from provider_images.builder.model import CompiledModel
from provider_images.builder.places import CACHE, IMAGES, LOCK, ROOT, digest_file
from provider_images.builder.recipe import Recipe
from provider_images.builder.rootfs import SITE, assemble
from provider_images.builder.squashfs import make_squashfs
from provider_images.builder.wheels import fetch_wheels, read_pins

_LOCK_LIMIT = 300.0  # seconds to wait for another build


def build_image(
    family: str, out: Path = IMAGES, *, force: bool = False, model: CompiledModel | None = None
) -> BuiltImage:
    """Build a family's image into ``out``, or return the one that lies there when nothing it is made of has changed.

    ``family`` is the recipe's folder, and ``model`` what goes into an image for a model that was brought here.
    ``force`` builds anew, with the distribution's packages as they stood within the last day. Raises HostUnsupported
    where building takes Docker, BuilderError when it fails.
    """
    recipe = Recipe.of(family, model=model)
    stamp, descriptor = out / f"{recipe.name}.stamp", out / f"{recipe.name}.json"
    try:
        inputs = _inputs(recipe)
        # Before anything is written: a finished image is good in a checkout that cannot be written to.
        if not force and (image := _built(descriptor, stamp, inputs)) is not None:
            return image
        out.mkdir(parents=True, exist_ok=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        with _alone(CACHE / "lock"):
            # Another may have built it while we waited.
            if force or (image := _built(descriptor, stamp, inputs)) is None:
                image = _build(recipe, out)
                stamp.write_text(inputs, encoding="utf-8")
            return image
    except OSError as error:
        raise BuilderError(f"the image cannot be built: {error}", remedy="See to the disk, then try again.") from error
    except (ValueError, tarfile.TarError, zipfile.BadZipFile, subprocess.TimeoutExpired) as error:
        raise BuilderError(
            f"the image cannot be built of what was fetched: {type(error).__name__}: {error}",
            remedy="Remove .cache/images and build again.",
        ) from error


def _build(recipe: Recipe, out: Path) -> BuiltImage:
    distribution = Packages(CACHE / "apt")
    python = distribution.default_python()
    packages = distribution.fetch([name.format(python=f"python{python}") for name in recipe.packages])
    pins = read_pins(LOCK.read_text(encoding="utf-8"), recipe.wheels, python)
    wheels = fetch_wheels(pins, python, CACHE / "wheels")
    target = out / f"{recipe.name}.gvmi"
    with tempfile.TemporaryDirectory(prefix="build-", dir=CACHE) as folder:
        root, unfinished = Path(folder, "root"), Path(folder, target.name)
        root.mkdir()
        assemble(root, recipe, packages, wheels, python)
        make_squashfs(root, unfinished)
        append_trailer(unfinished, container_config(recipe.volumes))
        image = BuiltImage(
            path=target.absolute(),
            family=recipe.served(),
            sha3_224=digest_file(unfinished, "sha3_224"),
            bytes=unfinished.stat().st_size,
            volumes=recipe.volumes,
            weights={digest: f"/{SITE}/{path}" for digest, path in recipe.weights().items()},
            sealed=recipe.model is not None,
        )
        # Next to the target first: renaming does not work from one disk to another.
        arrived = target.with_name(f"{target.name}.part")
        shutil.copyfile(unfinished, arrived)
        arrived.replace(target)
    image.write_descriptor()
    return image


def _inputs(recipe: Recipe) -> str:
    """A hash of what an image is made of, but for the distribution's packages."""
    own = sorted(Path(__file__).parent.rglob("*.py"))
    files = [*own, LOCK, ROOT / "provider_images" / recipe.family / "image.json"]
    places = {path.relative_to(ROOT): path for path in files} | recipe.sources()
    names = [[str(place), digest_file(path, "sha256")] for place, path in places.items()]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _built(descriptor: Path, stamp: Path, inputs: str) -> BuiltImage | None:
    """The image that lies there, when it was made of these inputs and is as it was made."""
    try:
        if stamp.read_text(encoding="utf-8") != inputs:
            return None
        image = read_descriptor(descriptor)
        return image if digest_file(image.path, "sha3_224") == image.sha3_224 else None
    except (OSError, BuilderError):
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One build at a time; they share downloads. Raises BuilderError when another takes too long."""
    until = time.monotonic() + _LOCK_LIMIT
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise BuilderError("another build does not end", remedy="End it; then build again.") from None
                time.sleep(0.1)
        yield
