"""Wheels by the versions and hashes of requirements.lock, for the image's Python rather than ours."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

from provider_images.builder.commands import run
from provider_images.builder.errors import BuilderError
from provider_images.builder.places import digest_file

_WITHIN = 300.0
# What the C library of any Debian or Ubuntu with Python 3.11 or newer can run.
_PLATFORMS = ("manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in range(17, 36)))
_PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+?))?\s*\\?$", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    """What the lock says of one package: its version and the hashes of its files."""

    name: str
    version: str
    hashes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on disk, its hash checked."""

    name: str
    version: str
    sha256: str
    path: Path


def read_pins(lock: str, names: Sequence[str], python: str) -> list[Pin]:
    """The pins of these packages for a Python (major.minor). Raises BuilderError when the lock has none."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pins: dict[str, Pin] = {}
    entries = list(_PIN.finditer(lock))
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        marker = entry["marker"]
        if entry["name"] in names and (marker is None or Marker(marker).evaluate(environment)):
            block = lock[entry.end() : following.start() if following else len(lock)]
            pins[entry["name"]] = Pin(entry["name"], entry["version"], frozenset(_HASH.findall(block)))
    if absent := [name for name in names if name not in pins]:
        raise BuilderError(
            f"requirements.lock has no {', '.join(absent)} for Python {python}", remedy="Resolve it anew: make lock."
        )
    return [pins[name] for name in names]


def fetch_wheels(pins: Sequence[Pin], python: str, folder: Path) -> list[Wheel]:
    """Wheels of these pins, from the folder or else downloaded into it. Raises BuilderError."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [pin for pin in pins if _find(pin, folder) is None]
    if missing:
        requirements = folder / "requirements.txt"
        requirements.write_text("".join(map(_line, missing)), encoding="utf-8")
        tag = python.replace(".", "")
        run(
            [
                *(sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", requirements),
                *("--python-version", python, "--implementation", "cp", "--abi", f"cp{tag}"),
                *(f"--platform={name}" for name in _PLATFORMS),
                *("--dest", folder),
            ],
            within=_WITHIN,
        )
    return [_found(pin, folder) for pin in pins]


def _line(pin: Pin) -> str:
    return f"{pin.name}=={pin.version} {' '.join(f'--hash=sha256:{value}' for value in sorted(pin.hashes))}\n"


def _find(pin: Pin, folder: Path) -> Wheel | None:
    for path in sorted(folder.glob(f"{pin.name.replace('-', '_')}-{pin.version}-*.whl")):
        if (digest := digest_file(path, "sha256")) in pin.hashes:
            return Wheel(pin.name, pin.version, digest, path)
    return None


def _found(pin: Pin, folder: Path) -> Wheel:
    wheel = _find(pin, folder)
    if wheel is None:
        raise BuilderError(f"no wheel of {pin.name} {pin.version} has a hash of the lock", remedy="Build again.")
    return wheel
