"""Debian packages without root: apt with a state of its own, and the archives read as they are.

Sources, keys and proxies are the machine's; nothing of the machine is changed.
"""

from __future__ import annotations

import contextlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provider_images.builder.commands import run
from provider_images.builder.errors import BuilderError, HostUnsupported
from provider_images.builder.places import digest_file

_FRESH = 24 * 3600.0  # seconds that the lists of packages are good for
_WITHIN = 300.0
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Package:
    """A package's archive on disk, its hash checked."""

    name: str
    version: str
    sha256: str
    path: Path


class Packages:
    """The distribution's packages. ``folder`` keeps lists and archives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def default_python(self) -> str:
        """The distribution's Python as major.minor. Raises BuilderError, HostUnsupported when it is too old."""
        self._prepare()
        found = re.search(r"Candidate: (\d+)\.(\d+)\.", self._apt("apt-cache", "policy", "python3"))
        if found is None:
            raise HostUnsupported("its distribution has no package python3")
        major, minor = map(int, found.groups())
        if (major, minor) < _OLDEST_PYTHON:
            raise HostUnsupported(f"its distribution has Python {major}.{minor}, and 3.11 is needed")
        return f"{major}.{minor}"

    def fetch(self, names: Sequence[str]) -> list[Package]:
        """The newest archives of these packages, in order; without what they depend on. Raises BuilderError."""
        self._prepare()
        archives = self._folder / "archives"
        # In an empty folder, for of an archive that lies where it runs apt says nothing.
        uris = self._apt("apt-get", "download", "--print-uris", *names, folder=self._folder / "nothing")
        wanted = [self._locate(line) for line in uris.splitlines()]
        found = {package.name: package for package in wanted}
        missing = [p for p in wanted if not p.path.exists() or digest_file(p.path, "sha256") != p.sha256]
        if missing:
            self._apt("apt-get", "download", *(f"{p.name}={p.version}" for p in missing), folder=archives)
        for package in missing:
            if not package.path.exists() or digest_file(package.path, "sha256") != package.sha256:
                raise BuilderError(f"the archive of {package.name} is not what the lists say", remedy="Build again.")
        return [found[name] for name in names]

    def unpack_tree(self, names: Sequence[str], target: Path) -> None:
        """Unpack packages as they are into a new folder, which appears complete or not at all. Raises BuilderError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            unfinished = Path(folder, "tree")
            unfinished.mkdir()
            for package in self.fetch(names):
                run(["dpkg-deb", "--extract", package.path, unfinished], within=_WITHIN)
            # Another process may have been faster; what it made is the same.
            with contextlib.suppress(OSError):
                unfinished.rename(target)

    def _locate(self, line: str) -> Package:
        """Read a line of ``--print-uris``: the address, name_version_architecture.deb, its size, its hash."""
        _, file, _, digest = line.split()
        algorithm, _, value = digest.partition(":")
        name, version, _ = file.split("_")
        if algorithm != "SHA256":
            raise HostUnsupported(f"its lists of packages know {algorithm} only")
        return Package(name, version.replace("%3a", ":"), value, self._folder / "archives" / file)

    def _prepare(self) -> None:
        """See that apt can be used and has lists that are not too old."""
        check_host()
        lists = self._folder / "lists"
        stamp = self._folder / "updated"
        for folder in (lists / "partial", self._folder / "archives" / "partial", self._folder / "nothing"):
            folder.mkdir(parents=True, exist_ok=True)
        if stamp.exists() and time.time() - stamp.stat().st_mtime < _FRESH:
            return
        (self._folder / "status").touch()
        self._write_configuration()
        try:
            self._apt("apt-get", "update")
        except BuilderError:
            # Without a network the lists of yesterday are good enough; a source that is gone need not matter either.
            if not any(lists.glob("*Packages*")):
                raise
        stamp.touch()

    def _write_configuration(self) -> None:
        """The machine's ways of fetching, and everything else our own: no hooks, no root, English, one architecture."""
        acquire = run(["apt-config", "dump", "Acquire"], within=_WITHIN)
        own = f"""
Dir::Etc::parts "{self._folder}/nothing";
Dir::Etc::main "";
Dir::State "{self._folder}";
Dir::State::lists "{self._folder}/lists";
Dir::State::status "{self._folder}/status";
Dir::Cache "{self._folder}";
Dir::Cache::archives "{self._folder}/archives";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
"""
        (self._folder / "apt.conf").write_text(acquire + own, encoding="utf-8")

    def _apt(self, program: str, *arguments: str, folder: Path | None = None) -> str:
        environment = {"APT_CONFIG": str(self._folder / "apt.conf")}
        return run([program, "--quiet", *arguments], within=_WITHIN, environment=environment, folder=folder)


def check_host() -> None:
    """Raises HostUnsupported where packages of Debian's kind for x86-64 cannot be had and run."""
    if sys.platform != "linux":
        raise HostUnsupported(f"it runs {platform.system()}")
    if platform.machine() != "x86_64":
        raise HostUnsupported(f"its processor is {platform.machine()}")
    for program in ("apt-get", "apt-cache", "apt-config", "dpkg-deb"):
        if shutil.which(program) is None:
            raise HostUnsupported(f"{program} is not installed")


@contextmanager
def open_archive(package: Package) -> Iterator[tarfile.TarFile]:
    """A package's files, to be read once in order. Raises BuilderError when it cannot be read to its end."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package.path], stdout=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                yield archive
            process.communicate(timeout=_WITHIN)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise BuilderError(f"{package.path.name} cannot be read", remedy="Remove it and build again.")
