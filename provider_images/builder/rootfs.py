"""The root file system of an image: packages, wheels and our own files, without what a model process never reads."""

from __future__ import annotations

import fnmatch
import json
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from provider_images.builder.commands import run
from provider_images.builder.debian import Package, open_archive
from provider_images.builder.errors import BuilderError
from provider_images.builder.recipe import Recipe
from provider_images.builder.wheels import Wheel

SITE = "usr/lib/python3/dist-packages"
CONTENTS = "usr/share/sibyl/contents.json"

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = f"{_LIBRARIES}/ld-linux-x86-64.so.2"
_WITHIN = 120.0

# /lib and its like are links into /usr, whichever way the packages of a release say it.
_MERGED = ("bin", "lib", "lib64", "sbin")
# A provider mounts over these, or makes files in them, before our command runs.
_FOLDERS = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib64", "usr/sbin", "var/tmp", SITE)

_NEVER = (
    "etc/*",
    "usr/share/*",
    f"{_LIBRARIES}/audit/*",
    f"{_LIBRARIES}/gconv/*",
    f"{_LIBRARIES}/perl-base/*",
    "usr/lib/python3.*/sitecustomize.py",
)
# Of the standard library, relative to its folder: what needs other packages, and what is for people who write programs.
_NEVER_PYTHON = (
    *(f"{name}/*" for name in ("curses", "dbm", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data")),
    *(f"{name}/*" for name in ("sqlite3", "test", "tkinter", "turtledemo", "venv", "wsgiref", "xmlrpc")),
    *(f"lib-dynload/{name}.*" for name in ("_bz2", "_crypt", "_curses*", "_dbm", "_hashlib", "_lzma", "_sqlite3")),
    *(f"lib-dynload/{name}.*" for name in ("_ssl", "_uuid", "audioop", "nis", "ossaudiodev", "readline")),
    *(f"lib-dynload/{name}*" for name in ("_codecs_", "_multibytecodec", "_test", "_xxtest", "_ctypes_test", "xxl")),
)
_NEVER_WHEELS = ("*/tests/*", "*.pyi", "*.pxd", "*.h", "*.dist-info/*")


def assemble(root: Path, recipe: Recipe, packages: Sequence[Package], wheels: Sequence[Wheel], python: str) -> None:
    """Fill an empty folder. Raises BuilderError, OSError."""
    for folder in (*_FOLDERS, *(volume.strip("/") for volume in recipe.volumes)):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in _MERGED:
        (root / name).symlink_to(f"usr/{name}")
    without = (*_NEVER, *(f"usr/lib/python{python}/{pattern}" for pattern in _NEVER_PYTHON), *recipe.without)
    for package in packages:
        with open_archive(package) as archive:
            _extract(archive, root, without)
    for wheel in wheels:
        with zipfile.ZipFile(wheel.path) as wheel_archive:
            _extract_wheel(wheel_archive, root, (*_NEVER_WHEELS, *recipe.without))
    for place, path in recipe.sources().items():
        target = root / SITE / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (root / "usr/bin/python3").symlink_to(f"python{python}")
    _write(root / "etc/passwd", b"root:x:0:0:root:/root:/usr/bin/python3\n")
    _write(root / "etc/group", b"root:x:0:\n")
    _write(root / "etc/hosts", b"127.0.0.1 localhost\n")
    _write(root / CONTENTS, _contents(packages, wheels))
    _run_inside(root, python, "compile.py")
    _run_inside(root, python, "check.py")
    for place in (root, *root.rglob("*")):
        if not place.is_symlink():  # plain modes, whatever the packages and the umask say
            place.chmod(0o755 if place.is_dir() or place.stat().st_mode & stat.S_IXUSR else 0o644)


def _extract(archive: tarfile.TarFile, root: Path, without: Sequence[str]) -> None:
    for entry in archive:
        path = _place(entry.name)
        if path is None or _fits(path, without):
            continue
        target = root / path
        if entry.isdir():
            target.mkdir(parents=True, exist_ok=True)
        elif entry.issym():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(entry.linkname)
        elif entry.islnk():
            linked = _place(entry.linkname)
            if linked is None or _fits(linked, without):
                raise BuilderError(f"{path} is a link to {entry.linkname}, which is left out", remedy="Keep that file.")
            original = root / linked
            _write(target, original.read_bytes(), executable=bool(original.stat().st_mode & stat.S_IXUSR))
        elif entry.isfile() and (content := archive.extractfile(entry)) is not None:
            _write(target, content.read(), executable=bool(entry.mode & stat.S_IXUSR))


def _extract_wheel(archive: zipfile.ZipFile, root: Path, without: Sequence[str]) -> None:
    for name in sorted(archive.namelist()):
        path = _place(f"{SITE}/{name}")
        if path is not None and not name.endswith("/") and not _fits(path, without):
            _write(root / path, archive.read(name))


def _place(name: str) -> str | None:
    """Where a path of an archive lies below the root, /lib and its like resolved; None for the root itself."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
    if ".." in parts:
        raise BuilderError(f"an archive holds the path {name}", remedy="Remove .cache/images and build again.")
    if parts and parts[0] in _MERGED:
        parts.insert(0, "usr")
    return "/".join(parts) or None


def _fits(path: str, patterns: Sequence[str]) -> bool:
    # A folder's own entry goes with what is in it.
    return any(fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(f"{path}/", pattern) for pattern in patterns)


def _write(target: Path, data: bytes, *, executable: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o755 if executable else 0o644)


def _contents(packages: Sequence[Package], wheels: Sequence[Wheel]) -> bytes:
    """What the image was made of, for whoever looks into it."""

    def rows(parts: Sequence[Package] | Sequence[Wheel]) -> list[dict[str, str]]:
        return [{"name": part.name, "version": part.version, "sha256": part.sha256} for part in parts]

    return json.dumps({"packages": rows(packages), "wheels": rows(wheels)}, indent=1).encode() + b"\n"


def _run_inside(root: Path, python: str, script: str) -> None:
    """Run a script of ours with the image's own Python, which needs no root and no container."""
    libraries = f"{root / _LIBRARIES}"
    command: list[str | Path] = [root / _LOADER, "--library-path", libraries, root / f"usr/bin/python{python}"]
    run(
        [*command, "-S", "-B", Path(__file__).parent / "inside" / script, root, f"usr/lib/python{python}", SITE],
        within=_WITHIN,
        environment={"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(root / SITE), "PYTHONHASHSEED": "0"},
        inherit=False,  # whatever is set here must not show in the image
    )
