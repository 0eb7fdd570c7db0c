"""The builder piece by piece; nothing is downloaded and no image is made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from provider_images.applications.manifests import manifest_of
from provider_images.builder import (
    BuilderError,
    BuiltImage,
    CompiledModel,
    HostUnsupported,
    build,
    compiled_model,
    debian,
    gvmi,
    model,
    read_descriptor,
    squashfs,
    unpack,
    wheels,
)
from provider_images.builder.__main__ import main
from provider_images.builder.build import build_image
from provider_images.builder.commands import run
from provider_images.builder.debian import Packages, check_host
from provider_images.builder.gvmi import append_trailer, container_config, read_trailer
from provider_images.builder.places import LOCK
from provider_images.builder.recipe import Recipe
from provider_images.builder.rootfs import _extract, _fits
from provider_images.builder.wheels import fetch_wheels, read_pins
from provider_images.runtime.choice import compiled_file
from provider_images.runtime.resident import COMPILED

pytestmark = pytest.mark.unit

# ---------------------------------------------------------------------------------------------------------------
# The file and its descriptor
# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> BuiltImage:
    """A file that begins like squashfs, with its trailer and its descriptor."""
    path = tmp_path / "tiny.gvmi"
    path.write_bytes(b"hsqs" + bytes(100))
    append_trailer(path, container_config(["/golem/work"]))
    digest = hashlib.sha3_224(path.read_bytes()).hexdigest()
    made = BuiltImage(path, "tiny", digest, path.stat().st_size, ("/golem/work",), {"ab": "/w.npz"})
    made.write_descriptor()
    return made


def test_the_trailer_is_what_golems_tools_read(image: BuiltImage) -> None:
    data = image.path.read_bytes()
    length = int(data[-8:])
    text = data[-8 - length : -8]
    assert data[-8:] == f"{length:08d}".encode()
    assert int.from_bytes(data[-12 - length : -8 - length], "little") == zlib.crc32(text)
    assert json.loads(text)["Volumes"] == {"/golem/work": {}}
    assert data[: -12 - length] == b"hsqs" + bytes(100)
    assert read_trailer(image.path) == json.loads(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-20] + b"!" + data[-19:],
        lambda data: data[:-8] + b"00000001",
        lambda data: data[:-8] + b"99999999",
        lambda data: data[:-8] + b"-0000012",
        lambda data: b"XXXX" + data[4:],
        lambda data: data[:-1],
        lambda data: b"hsqs",
        lambda data: b"",
    ],
)
def test_a_damaged_image_is_refused(spoil: Callable[[bytes], bytes], image: BuiltImage) -> None:
    image.path.write_bytes(spoil(image.path.read_bytes()))
    with pytest.raises(BuilderError) as raised:
        read_trailer(image.path)
    assert raised.value.remedy


def test_a_trailer_that_is_not_json_is_refused(image: BuiltImage) -> None:
    image.path.write_bytes(b"hsqs" + zlib.crc32(b"{").to_bytes(4, "little") + b"{00000001")
    with pytest.raises(BuilderError, match="JSON"):
        read_trailer(image.path)


def test_an_image_is_unpacked_only_if_it_is_the_one_described(image: BuiltImage, tmp_path: Path) -> None:
    data = bytearray(image.path.read_bytes())
    data[50] ^= 1  # nothing that the trailer would notice
    image.path.write_bytes(data)
    with pytest.raises(BuilderError, match="digest"):
        unpack(image.path, tmp_path / "root")
    image.descriptor.unlink()
    with pytest.raises(BuilderError, match="descriptor"):
        unpack(image.path, tmp_path / "root")
    with pytest.raises(BuilderError, match="digest"):
        unpack(image.path, tmp_path / "root", sha3_224=image.sha3_224)
    assert not (tmp_path / "root").exists()


def test_nothing_is_unpacked_over_something(image: BuiltImage, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(BuilderError, match="exists already"):
        unpack(image.path, tmp_path / "root")


def test_a_descriptor_reads_back(image: BuiltImage) -> None:
    assert read_descriptor(image.descriptor) == image
    assert json.loads(image.descriptor.read_text()) == {
        "schema": "sibyl/image/1",
        "family": "tiny",
        "file": "tiny.gvmi",
        "sha3_224": image.sha3_224,
        "bytes": image.bytes,
        "volumes": ["/golem/work"],
        "weights": {"ab": "/w.npz"},
        "sealed": False,
    }
    sealed = replace(image, sealed=True)
    sealed.write_descriptor()
    assert read_descriptor(image.descriptor) == sealed


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema", "sibyl/image/2"), ("file", "../x.gvmi"), ("bytes", "many"), ("weights", []), ("volumes", 1)],
)
def test_a_descriptor_that_is_not_one_is_refused(field: str, value: object, image: BuiltImage) -> None:
    document = json.loads(image.descriptor.read_text())
    image.descriptor.write_text(json.dumps({**document, field: value}))
    with pytest.raises(BuilderError, match="not the descriptor"):
        read_descriptor(image.descriptor)


# ---------------------------------------------------------------------------------------------------------------
# What goes in
# ---------------------------------------------------------------------------------------------------------------


def test_the_recipe_of_mnist_holds_what_a_provider_needs_and_nothing_of_the_oracle() -> None:
    recipe = Recipe.of("mnist")
    files = {str(place) for place in recipe.sources()}
    assert {"provider_images/runtime/__main__.py", "provider_images/mnist/forward.py"} <= files
    assert not any(name.startswith(("oracle/", "provider_images/builder/")) for name in files)
    assert recipe.volumes == ("/golem/work",)
    manifest = json.loads((LOCK.parent / "provider_images/mnist/manifest.json").read_text())
    assert recipe.weights() == {manifest["weights"]["sha256"]: Path("provider_images/mnist/weights.npz")}
    # The weights must lie where nothing is mounted over them.
    assert not any(name.startswith("golem/") for name in files)


def a_recipe(root: Path, **fields: list[str]) -> Recipe:
    folder = root / "provider_images" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[str]] = {key: [] for key in ("packages", "wheels", "files", "without", "volumes")}
    (folder / "image.json").write_text(json.dumps({"schema": "sibyl/recipe/1", **lists, **fields}))
    return Recipe.of("tiny", root)


def test_a_family_without_a_recipe_names_those_that_have_one(tmp_path: Path) -> None:
    a_recipe(tmp_path)
    with pytest.raises(BuilderError) as raised:
        Recipe.of("absent", tmp_path)
    assert "tiny" in raised.value.remedy


@pytest.mark.parametrize("fields", [{"extra": []}, {"schema": "sibyl/recipe/2"}])
def test_a_recipe_that_is_not_one_is_refused(fields: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match=r"image\.json"):
        a_recipe(tmp_path, **fields)


def test_a_pattern_that_finds_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match="no file fits absent"):
        a_recipe(tmp_path, files=["absent*.py"]).sources(tmp_path)


def test_weights_that_are_not_their_manifests_stop_the_build(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path, files=["provider_images/tiny/*"])
    folder = tmp_path / "provider_images" / "tiny"
    (folder / "weights.npz").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"weights": {"sha256": digest}}))
    assert recipe.weights(tmp_path) == {digest: Path("provider_images/tiny/weights.npz")}
    (folder / "weights.npz").write_bytes(b"others")
    with pytest.raises(BuilderError, match="other weights"):
        recipe.weights(tmp_path)


# ---------------------------------------------------------------------------------------------------------------
# A model that was brought here
# ---------------------------------------------------------------------------------------------------------------

SHA256 = "5" * 64
PLACE = Path("provider_images/compiled", f"mobilenet-v2-{SHA256}")


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """What `sibyl models pull` leaves, with the network that was compiled from it."""
    folder = tmp_path / "models" / "mobilenet-v2"
    network = folder / "compiled" / PLACE.name
    network.mkdir(parents=True)
    manifest = manifest_of("mobilenet-v2", sha256=SHA256, size=7, cid="cid")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "weights.h5").write_bytes(b"weights")
    (network / "model.xml").write_text("<net/>")
    (network / "model.bin").write_bytes(b"numbers")
    return folder


@pytest.fixture
def a_model(pulled: Path) -> CompiledModel:
    return compiled_model(pulled)


def test_given_a_pulled_model_then_its_image_holds_the_compiled_network_and_the_manifest_but_no_weights(
    pulled: Path,
) -> None:
    recipe = Recipe.of("applications", model=compiled_model(pulled))
    own = {str(place): path for place, path in recipe.sources().items() if place.parent == PLACE}
    assert {Path(place).name for place in own} == {"manifest.json", "model.xml", "model.bin"}
    assert own[f"{PLACE}/model.bin"].read_bytes() == b"numbers"
    assert (recipe.name, recipe.served()) == ("mobilenet-v2", "mobilenet-v2")
    assert recipe.weights() == {SHA256: PLACE / "model.xml"}
    # Where the resident process of an image looks for it.
    assert compiled_file(COMPILED, "mobilenet-v2", SHA256) == LOCK.parent / PLACE / "model.xml"


def test_given_a_compiled_model_in_another_folder_then_that_is_taken(pulled: Path, tmp_path: Path) -> None:
    (pulled / "compiled").rename(tmp_path / "elsewhere")
    assert compiled_model(pulled, tmp_path / "elsewhere").files["model.bin"].read_bytes() == b"numbers"


def test_given_a_model_that_is_not_compiled_then_it_is_compiled_once_in_a_process_of_its_own(
    pulled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(pulled / "compiled")
    commands: list[list[str]] = []

    def compiles(command: list[str | Path], **_: object) -> str:
        commands.append([str(part) for part in command])
        network = pulled / "compiled" / PLACE.name
        network.mkdir(parents=True)
        for name in ("model.xml", "model.bin"):
            (network / name).touch()
        return ""

    monkeypatch.setattr(model, "run", compiles)
    assert compiled_model(pulled) == compiled_model(pulled)
    (command,) = commands
    assert command[:4] == [sys.executable, "-P", "-m", "provider_images.runtime.compiled"]
    assert command[4:7] == [str(pulled / name) for name in ("manifest.json", "weights.h5", "compiled")]


def test_given_weights_that_do_not_compile_then_the_reason_is_told(
    pulled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(pulled / "compiled")
    # The manifest names other weights; the child sees it before it imports an engine.
    with pytest.raises(BuilderError, match=r"sha256 is not the manifest's") as raised:
        compiled_model(pulled)
    assert "make setup" in raised.value.remedy
    (pulled / "weights.h5").unlink()
    with pytest.raises(BuilderError, match=r"weights\.h5 are not there"):
        compiled_model(pulled)
    with pytest.raises(BuilderError, match=r"is not the manifest of a model"):
        compiled_model(pulled.parent)


def test_given_half_a_compiled_model_then_the_missing_file_is_named(pulled: Path) -> None:
    (pulled / "compiled" / PLACE.name / "model.bin").unlink()
    with pytest.raises(BuilderError, match=r"model\.bin is not there"):
        compiled_model(pulled)


@pytest.mark.parametrize("folder", ["mnist", "mask_rcnn"])
def test_given_a_model_with_a_recipe_of_its_own_then_it_is_not_packed_another_way(folder: str) -> None:
    with pytest.raises(BuilderError, match="only the catalogue's classifiers"):
        compiled_model(LOCK.parent / "provider_images" / folder)


def test_given_a_recipe_without_the_model_it_needs_or_with_one_it_does_not_then_it_says_so(
    a_model: CompiledModel,
) -> None:
    with pytest.raises(BuilderError, match="needs a model") as raised:
        Recipe.of("applications")
    assert "--model DIR" in raised.value.remedy
    with pytest.raises(BuilderError, match="takes no model"):
        Recipe.of("mnist", model=a_model)


A_LOCK = f"""\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:{"a" * 64} \\
    --hash=sha256:{"b" * 64}
    # via keras
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:{"c" * 64}
numpy-extra==1.0 \\
    --hash=sha256:{"d" * 64}
pillow==13.0.0 \\
    --hash=sha256:{"e" * 64}
    # via
    #   sibyl (pyproject.toml)
"""


@pytest.mark.parametrize(("python", "version", "hashes"), [("3.11", "2.4.6", "ab"), ("3.13", "2.5.5", "c")])
def test_pins_are_those_of_the_images_python(python: str, version: str, hashes: str) -> None:
    pillow, numpy = read_pins(A_LOCK, ["pillow", "numpy"], python)
    assert (numpy.name, numpy.version) == ("numpy", version)
    assert numpy.hashes == {letter * 64 for letter in hashes}
    assert (pillow.version, pillow.hashes) == ("13.0.0", {"e" * 64})


def test_a_wheel_that_is_not_locked_stops_the_build() -> None:
    with pytest.raises(BuilderError, match=r"scipy for Python 3\.11"):
        read_pins(A_LOCK, ["numpy", "scipy"], "3.11")


def test_the_lock_pins_the_wheels_of_every_recipe(a_model: CompiledModel) -> None:
    for path in (LOCK.parent / "provider_images").glob("*/image.json"):
        recipe = Recipe.of(path.parent.name, model=a_model if path.parent.name == "applications" else None)
        for python in ("3.11", "3.13"):
            assert all(pin.hashes for pin in read_pins(LOCK.read_text(), recipe.wheels, python))


def test_a_wheel_is_used_only_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str | Path], **_: object) -> str:
        asked.append([str(part) for part in command])
        (tmp_path / "tiny-1.0-cp313-cp313-manylinux_2_28_x86_64.whl").write_bytes(served)
        return ""

    monkeypatch.setattr(wheels, "run", pip)
    digest = hashlib.sha256(b"wheel").hexdigest()
    pins = read_pins(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n", ["tiny"], "3.13")
    served = b"another"
    with pytest.raises(BuilderError, match="hash of the lock"):
        fetch_wheels(pins, "3.13", tmp_path)
    served = b"wheel"
    for _ in range(2):
        assert [(wheel.name, wheel.sha256) for wheel in fetch_wheels(pins, "3.13", tmp_path)] == [("tiny", digest)]
    assert len(asked) == 2  # the third time it lay there
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps", "cp313"} <= set(asked[0])
    assert (tmp_path / "requirements.txt").read_text() == f"tiny==1.0 --hash=sha256:{digest}\n"


# ---------------------------------------------------------------------------------------------------------------
# The root file system
# ---------------------------------------------------------------------------------------------------------------


def extracted(root: Path, *entries: tuple[str, bytes, dict[str, object]], without: tuple[str, ...] = ()) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data, fields in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for field, value in fields.items():
                setattr(entry, field, value)
            tar.addfile(entry, io.BytesIO(data))
    target.seek(0)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    with tarfile.open(fileobj=target, mode="r|") as tar:
        _extract(tar, root, without)


def test_packages_of_either_layout_come_to_lie_in_usr(tmp_path: Path) -> None:
    extracted(
        tmp_path,
        ("./lib/", b"", {"type": tarfile.DIRTYPE}),
        ("./lib/x86/libc.so.6", b"old", {}),
        ("./usr/lib/x86/libm.so.6", b"new", {}),
        ("./lib64/ld.so", b"", {"type": tarfile.SYMTYPE, "linkname": "/lib/x86/ld.so.2"}),
    )
    assert (tmp_path / "usr/lib/x86/libc.so.6").read_bytes() == b"old"
    assert (tmp_path / "lib/x86/libm.so.6").read_bytes() == b"new"
    assert (tmp_path / "lib").is_symlink()
    assert (tmp_path / "usr/lib64/ld.so").readlink() == Path("/lib/x86/ld.so.2")


def test_modes_are_plain_whatever_the_package_says(tmp_path: Path) -> None:
    extracted(tmp_path, ("usr/bin/su", b"", {"mode": 0o4755}), ("usr/lib/secret", b"", {"mode": 0o600}))
    assert stat.S_IMODE((tmp_path / "usr/bin/su").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "usr/lib/secret").stat().st_mode) == 0o644


def test_hard_links_become_files_of_their_own(tmp_path: Path) -> None:
    link = {"type": tarfile.LNKTYPE, "linkname": "./bin/python3.11"}
    extracted(tmp_path, ("./bin/python3.11", b"elf", {"mode": 0o755}), ("./usr/bin/python", b"", link))
    assert (tmp_path / "usr/bin/python").read_bytes() == b"elf"
    assert os.access(tmp_path / "usr/bin/python", os.X_OK)


def test_a_link_to_what_is_left_out_is_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    link = {"type": tarfile.LNKTYPE, "linkname": "usr/share/a"}
    with pytest.raises(BuilderError, match="left out"):
        extracted(tmp_path, ("usr/share/a", b"", {}), ("usr/lib/b", b"", link), without=("usr/share/*",))


def test_no_archive_writes_outside(tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match="path"):
        extracted(tmp_path / "root", ("../outside", b"", {}))
    assert not (tmp_path / "outside").exists()


def test_what_is_left_out_goes_with_its_folder() -> None:
    patterns = ("usr/share/*", "*/tests/*")
    assert _fits("usr/share", patterns)
    assert _fits("usr/share/doc/x", patterns)
    assert _fits("site/numpy/tests/test_x.py", patterns)
    assert not _fits("usr/shared", patterns)
    assert not _fits("site/numpy/testing.py", patterns)


# ---------------------------------------------------------------------------------------------------------------
# Building or not
# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, image: BuiltImage) -> list[str]:
    """Each build that was made, with a double that makes the tiny image."""
    made: list[str] = []

    def double(recipe: Recipe, out: Path) -> BuiltImage:
        made.append(recipe.family)
        path = out / f"{recipe.name}.gvmi"
        shutil.copyfile(image.path, path)
        result = replace(image, path=path.absolute(), family=recipe.name)
        result.write_descriptor()
        return result

    monkeypatch.setattr(build, "_build", double)
    return made


def test_what_is_up_to_date_is_not_built_again(builds: list[str], tmp_path: Path) -> None:
    first = build_image("mnist", tmp_path / "out")
    assert build_image("mnist", tmp_path / "out") == first
    assert builds == ["mnist"]
    assert build_image("mnist", tmp_path / "out", force=True) == first
    assert builds == ["mnist"] * 2


@pytest.mark.parametrize("name", ["requirements.lock", "image.json", "weights.npz", "resident.py", "rootfs.py"])
def test_a_changed_input_is_built_again(
    name: str, builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_image("mnist", tmp_path / "out")
    plain = build.digest_file
    monkeypatch.setattr(build, "digest_file", lambda path, kind: "new" if path.name == name else plain(path, kind))
    build_image("mnist", tmp_path / "out")
    assert builds == ["mnist"] * 2


def test_given_two_models_of_one_recipe_then_each_has_an_image_which_is_built_anew_when_its_network_changes(
    builds: list[str], pulled: Path, tmp_path: Path
) -> None:
    build_image("mnist", tmp_path / "out")
    for _ in range(2):
        image = build_image("applications", tmp_path / "out", model=compiled_model(pulled))
    assert image.descriptor == tmp_path / "out" / "mobilenet-v2.json"
    assert builds == ["mnist", "applications"]
    # Where it lies makes no difference, what is in it does.
    moved = pulled.rename(pulled.with_name("moved"))
    build_image("applications", tmp_path / "out", model=compiled_model(moved))
    assert builds == ["mnist", "applications"]
    (moved / "compiled" / PLACE.name / "model.bin").write_bytes(b"others")
    build_image("applications", tmp_path / "out", model=compiled_model(moved))
    assert builds == ["mnist", "applications", "applications"]


@pytest.mark.parametrize("name", ["mnist.gvmi", "mnist.json", "mnist.stamp"])
def test_a_damaged_output_is_built_again(name: str, builds: list[str], tmp_path: Path) -> None:
    build_image("mnist", tmp_path / "out")
    (tmp_path / "out" / name).write_text("damaged")
    build_image("mnist", tmp_path / "out")
    assert builds == ["mnist"] * 2


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuilderError, match="cannot be built") as raised:
        build_image("mnist", tmp_path / "file" / "out")
    assert raised.value.remedy


@pytest.mark.parametrize(
    "trouble",
    [
        OSError(28, "No space left on device"),
        ValueError("not enough values to unpack"),
        tarfile.ReadError("unexpected end of data"),
        zipfile.BadZipFile("File is not a zip file"),
        subprocess.TimeoutExpired("dpkg-deb", 300.0),
    ],
)
def test_whatever_goes_wrong_in_a_build_is_an_error_with_a_remedy(
    trouble: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise trouble

    monkeypatch.setattr(build, "_build", fail)
    with pytest.raises(BuilderError, match="cannot be built") as raised:
        build_image("mnist", tmp_path / "out")
    assert raised.value.remedy


def test_a_finished_image_is_good_where_nothing_can_be_written(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_image("mnist", tmp_path / "out")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(build, "_alone", refuse)
    assert build_image("mnist", tmp_path / "out") == first
    assert builds == ["mnist"]
    with pytest.raises(BuilderError, match="Read-only"):
        build_image("mnist", tmp_path / "out", force=True)


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), BuilderError("unsquashfs failed (1)")])
def test_a_full_disk_is_told_with_the_space_that_is_needed(
    trouble: Exception, image: BuiltImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise trouble

    listing = "squashfs-root listing\n-rw-r--r-- 0/0 4097 2025-01-01 00:00 /a\ndrwxr-xr-x 0/0 30 2025-01-01 00:00 /b\n"
    monkeypatch.setattr(squashfs, "list_squashfs", lambda _: listing + listing * 1000)
    monkeypatch.setattr(gvmi, "unpack_squashfs", fail)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    with pytest.raises(BuilderError, match=r"needs 12 MB .*3 MB are free") as raised:
        unpack(image.path, tmp_path / "unpacked")
    assert "Free that space" in raised.value.remedy
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=13_000_000))
    with pytest.raises(BuilderError, match=r"No space left|unsquashfs failed"):
        unpack(image.path, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda patch: patch.setattr(sys, "platform", "darwin"), "runs"),
        (lambda patch: patch.setattr(debian.platform, "machine", lambda: "aarch64"), "aarch64"),
        (lambda patch: patch.setattr(debian.shutil, "which", lambda _: None), "apt-get is not installed"),
    ],
)
def test_where_there_is_no_debian_it_says_what_to_do_instead(
    change: Callable[[pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change(monkeypatch)
    with pytest.raises(HostUnsupported, match=said) as raised:
        check_host()
    assert "gvmkit-build" in raised.value.remedy
    with pytest.raises(HostUnsupported):
        build_image("mnist", tmp_path / "out")


@pytest.mark.parametrize(("candidate", "found"), [("3.11.2-1+b1", "3.11"), ("3.13.5-1", "3.13")])
def test_the_images_python_is_the_distributions(
    candidate: str, found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = iter([f"python3:\n  Installed: (none)\n  Candidate: {v}\n" for v in (candidate, "3.10.6-1", "(none)")])
    monkeypatch.setattr(Packages, "_prepare", lambda _: None)
    monkeypatch.setattr(Packages, "_apt", lambda *_: next(answers))
    assert Packages(tmp_path).default_python() == found
    with pytest.raises(HostUnsupported, match=r"3\.10"):
        Packages(tmp_path).default_python()
    with pytest.raises(HostUnsupported, match="no package"):
        Packages(tmp_path).default_python()


def test_apts_answer_is_read(tmp_path: Path) -> None:
    digest = "0" * 64
    line = f"'http://mirror/z/zlib1g_1.2_amd64.deb' zlib1g_1%3a1.2.13_amd64.deb 86684 SHA256:{digest}"
    package = Packages(tmp_path)._locate(line)
    assert (package.name, package.version, package.sha256) == ("zlib1g", "1:1.2.13", digest)
    assert package.path == tmp_path / "archives" / "zlib1g_1%3a1.2.13_amd64.deb"
    with pytest.raises(HostUnsupported, match="MD5Sum"):
        Packages(tmp_path)._locate(line.replace("SHA256", "MD5Sum"))


def test_apt_is_asked_where_no_archive_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"an archive").hexdigest()
    name = "zlib1g_1.2_amd64.deb"
    asked: list[Path | None] = []

    def apt(_: Packages, program: str, *arguments: str, folder: Path | None = None) -> str:
        asked.append(folder)
        # As the real one: nothing of an archive that lies in the working directory.
        return "" if (folder or Path.cwd()).joinpath(name).exists() else f"'http://m/{name}' {name} 9 SHA256:{digest}\n"

    monkeypatch.setattr(Packages, "_prepare", lambda _: None)
    monkeypatch.setattr(Packages, "_apt", apt)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archives").mkdir()
    for folder in (tmp_path, tmp_path / "archives"):
        (folder / name).write_bytes(b"an archive")
    (package,) = Packages(tmp_path).fetch(["zlib1g"])
    assert package.path == tmp_path / "archives" / name
    assert asked == [tmp_path / "nothing"]


def test_a_program_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    show = "import os; print(os.environ.get('SOURCE_DATE_EPOCH'), os.environ['ADDED'])"
    assert run([sys.executable, "-c", show], within=30, environment={"ADDED": "yes"}) == "None yes\n"
    with pytest.raises(BuilderError, match="no such thing"):
        run([sys.executable, "-c", "raise SystemExit('no such thing')"], within=30)
    with pytest.raises(BuilderError, match=r"longer than 0\.2 s"):
        run([sys.executable, "-c", "import time; time.sleep(30)"], within=0.2)
    with pytest.raises(HostUnsupported, match="mksquashfs is not installed"):
        run(["/nonexistent/mksquashfs"], within=1)


def test_the_command_says_how_large_the_image_is(
    builds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], image: BuiltImage
) -> None:
    assert main(["mnist", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert f"({image.bytes} bytes)" in said
    assert f"sha3:{image.sha3_224}" in said
    assert main(["absent"]) == 1
    assert "Name one of: applications, mask_rcnn, mnist." in capsys.readouterr().err


def test_the_builder_imports_nothing_of_the_oracle_and_no_engine() -> None:
    script = "import sys, provider_images.builder; print({'oracle', 'numpy', 'tensorflow', 'PIL'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "set()"
