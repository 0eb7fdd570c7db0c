"""The images as they are shipped: built twice, looked into, and run as root file systems in their own namespaces."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from provider_images.builder import BuilderError, BuiltImage, HostUnsupported, build_image, unpack
from provider_images.builder.gvmi import read_trailer
from provider_images.builder.rootfs import CONTENTS, SITE
from provider_images.builder.squashfs import list_squashfs
from provider_images.mask_rcnn.scenes import SHAPES, scene
from provider_images.mnist.draw import draw_digit
from provider_images.runtime.job import Job, JobInput, JobModel, JobResult
from provider_images.runtime.masks import decode_mask
from provider_images.runtime.task import pack_task

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

FAMILIES = Path(__file__).parents[2] / "provider_images"
MANIFEST = json.loads((FAMILIES / "mnist/manifest.json").read_text())
SEGMENTING = json.loads((FAMILIES / "mask_rcnn/manifest.json").read_text())

# Namespaces of its own, as root or as nobody: mounts, network, host name. Within, a root file system as a provider's
# virtual machine has it.
NAMESPACES = ["unshare", "--mount", "--net", "--uts", *([] if os.geteuid() == 0 else ["--map-root-user"])]
ENTER = """
set -e
root=$1 work=$2; shift 2
mount --bind "$root" "$root"
mount --bind "$work" "$root/golem/work"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
exec chroot "$root" "$@"
"""


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    """The image where `sibyl up` would have it; built, unless it lies there."""
    try:
        return build_image("mnist")
    except HostUnsupported as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def root(image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("image") / "root"
    unpack(image.path, target)
    return target


# ---------------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_image(image: BuiltImage, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        again = build_image("mnist", tmp_path / "elsewhere", force=True)
    finally:
        os.umask(before)
    assert again.path != image.path
    assert (again.sha3_224, again.bytes) == (image.sha3_224, image.bytes)
    assert again.path.read_bytes() == image.path.read_bytes()


def test_the_image_is_small(image: BuiltImage) -> None:
    assert image.bytes == image.path.stat().st_size
    assert image.bytes < 24e6


def test_it_carries_its_volumes_and_where_its_weights_lie(image: BuiltImage, root: Path) -> None:
    assert read_trailer(image.path)["Volumes"] == {"/golem/work": {}}
    place = image.weights[MANIFEST["weights"]["sha256"]]
    assert not place.startswith("/golem/")
    assert (root / place.lstrip("/")).stat().st_size == MANIFEST["weights"]["bytes"]


def test_it_holds_what_a_provider_mounts_over_and_nothing_that_nobody_reads(root: Path) -> None:
    for folder in ("dev", "etc", "proc", "sys", "tmp", "golem/work"):
        assert (root / folder).is_dir()
    assert (root / "usr/bin/python3").exists()
    for absent in ("usr/share/doc", "usr/share/locale", f"{SITE}/numpy/f2py", f"{SITE}/pip", f"{SITE}/tensorflow"):
        assert not (root / absent).exists()
    names = {path.name for path in root.rglob("*")}
    assert names.isdisjoint({"test", "tests", "idlelib", "tkinter", "ensurepip", "METADATA"})
    # Compiled beforehand: a provider would do it again at each start.
    sources = list(root.rglob("*.py"))
    assert sources
    assert {path.relative_to(root / SITE).parts[0] for path in sources} == {"provider_images"}
    for path in root.rglob("*"):
        assert path.is_symlink() or not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH)


def test_it_says_what_it_was_made_of(root: Path) -> None:
    contents = json.loads((root / CONTENTS).read_text())
    assert {"libc6", "numpy", "pillow"} <= {part["name"] for kind in contents.values() for part in kind}
    assert all(len(part["sha256"]) == 64 and part["version"] for kind in contents.values() for part in kind)


def test_the_list_names_every_file(image: BuiltImage) -> None:
    listed = list_squashfs(image.path)
    assert f" /{SITE}/provider_images/runtime/__main__.py" in listed
    owners = {line.split()[1] for line in listed.splitlines()}
    assert owners == {"root/root"}


def test_a_changed_byte_is_noticed(image: BuiltImage, tmp_path: Path) -> None:
    copy = tmp_path / image.path.name
    data = bytearray(image.path.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    shutil.copyfile(image.descriptor, tmp_path / image.descriptor.name)
    with pytest.raises(BuilderError, match="digest"):
        unpack(copy, tmp_path / "root")
    assert not (tmp_path / "root").exists()


# ---------------------------------------------------------------------------------------------------------------
# Inside it
# ---------------------------------------------------------------------------------------------------------------


class Inside:
    """Commands in the image, with no environment and no network; the work folder is all they share."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.work = root, work

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*NAMESPACES, "sh", "-c", ENTER, "enter", self.root, self.work, "/usr/bin/python3", *arguments]
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}  # for sh and mount
        return subprocess.run(command, env=path, cwd="/", capture_output=True, text=True, timeout=60, check=False)

    def runtime(self, *arguments: str) -> str:
        ran = self.python("-m", "provider_images.runtime", *arguments)
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout

    @property
    def resident(self) -> psutil.Process:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.work / ".resident" / "socket"))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return psutil.Process(struct.unpack("3i", credentials)[0])

    def task(self, image: BuiltImage, name: str, style: str) -> Job:
        files: dict[str, bytes] = {}
        for digit in range(10):
            target = io.BytesIO()
            draw_digit(digit, 3_000_000, style=style).save(target, "PNG")  # type: ignore[arg-type]
            files[f"{digit}.png"] = target.getvalue()
        return self.pack(image, MANIFEST, name, files)

    def pack(self, image: BuiltImage, manifest: dict[str, Any], name: str, files: dict[str, bytes]) -> Job:
        weights = image.weights[manifest["weights"]["sha256"]]
        inputs = tuple(JobInput(key, "cid", key, len(data)) for key, data in files.items())
        job = Job(name, JobModel("cid", manifest, weights), inputs, 10**7, 30)
        (self.work / f"{name}.tar").write_bytes(pack_task({"job.json": job.to_json().encode(), **files}))
        return job


@pytest.fixture
def inside(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with entering(root, tmp_path_factory.mktemp("w")) as entered:
        yield entered


@contextmanager
def entering(root: Path, work: Path) -> Iterator[Inside]:
    probe = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if sys.platform != "linux" or probe.returncode != 0:
        pytest.skip(f"this machine gives us no namespaces of our own: {probe.stderr.strip()}")
    entered = Inside(root, work)
    try:
        yield entered
    finally:
        if (entered.work / ".resident" / "socket").exists():
            entered.resident.kill()


def test_start_and_run_inside_the_image(inside: Inside, image: BuiltImage) -> None:
    said = json.loads(inside.runtime("start"))
    assert said["engine"].startswith("sibyl-numpy 1, numpy 2.")
    assert said["cpus"] == len(os.sched_getaffinity(0))
    assert said["images_per_second"] > 1
    resident = inside.resident
    for style in ("mnist", "paper"):
        job = inside.task(image, style, style)
        assert inside.runtime("run", f"/golem/work/{style}.tar", f"/golem/work/{style}.json") == ""
        result = JobResult.from_json((inside.work / f"{style}.json").read_text(), job)
        assert [item.labels[0][0] for item in result.items] == list(range(10))
        assert min(item.labels[0][1] for item in result.items) > 0.6
        assert result.engine == said["engine"]
    assert inside.resident == resident

    resident.kill()
    while resident.is_running() and resident.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    inside.runtime("run", "/golem/work/mnist.tar", "/golem/work/again.json")
    assert inside.resident != resident


def test_the_image_of_mask_rcnn_finds_what_a_scene_shows(tmp_path: Path) -> None:
    try:
        image = build_image("mask_rcnn")
    except HostUnsupported as error:
        pytest.skip(str(error))
    assert image.bytes < 33e6
    assert image.family == SEGMENTING["family"]
    unpack(image.path, tmp_path / "root")
    digits = np.stack([np.asarray(draw_digit(i % 10, i // 10, style="mnist")) for i in range(20)])
    scenes = [scene(digits, np.arange(20) % 10, 9, i) for i in range(6)]
    files = {}
    for i, one in enumerate(scenes):
        target = io.BytesIO()
        Image.fromarray(one.picture).save(target, "PNG")
        files[f"{i}.png"] = target.getvalue()
    (tmp_path / "w").mkdir()
    with entering(tmp_path / "root", tmp_path / "w") as inside:
        said = json.loads(inside.runtime("start"))
        assert said["engine"].startswith("sibyl-numpy 1, numpy 2.")
        assert said["images_per_second"] > 0.5
        job = inside.pack(image, SEGMENTING, "scenes", files)
        assert inside.runtime("run", "/golem/work/scenes.tar", "/golem/work/scenes.json") == ""
        result = JobResult.from_json((inside.work / "scenes.json").read_text(), job)
    overlaps = []
    for one, item in zip(scenes, result.items, strict=True):
        assert item.size == (128, 128)
        masks = [(segment.index, decode_mask(segment.counts, 128, 128)) for segment in item.segments]
        for i in np.flatnonzero((one.classes > 0) & (one.classes <= len(SHAPES))):
            truth = one.owner == i + 1
            same = [(m & truth).sum() / (m | truth).sum() for index, m in masks if index == one.classes[i] - 1]
            overlaps.append(max(same, default=0.0))
    assert len(overlaps) >= 6
    assert np.mean(np.array(overlaps) > 0.8) > 0.8


def test_nothing_outside_the_image_is_needed_or_reached(inside: Inside) -> None:
    ran = inside.python("-c", "import os; print(sorted(os.listdir('/')), sorted(os.environ))")
    assert "'work'" not in ran.stdout
    assert "'golem'" in ran.stdout
    ran = inside.python("-c", "import socket; socket.create_connection(('127.0.0.1', 9), 1)")
    assert "Network is unreachable" in ran.stderr
    ran = inside.python("-m", "provider_images.runtime", "run", "/golem/work/absent.tar", "/golem/work/absent.json")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
