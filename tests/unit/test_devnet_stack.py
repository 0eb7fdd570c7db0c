"""Which backend a stack comes up with where there is no Golem network."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from oracle.devnet import stack as stack_module
from oracle.devnet.stack import _golem, provider_images
from oracle.errors import ConfigurationError
from provider_images.builder import BuiltImage

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_golem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> list[str]:
        raise ConfigurationError("the provider image cannot be built: no disk", remedy="Free some space.")

    monkeypatch.setattr(stack_module, "provider_images", refuse)
    monkeypatch.delenv("SIBYL_BACKEND", raising=False)


async def test_given_a_new_folder_when_the_network_does_not_start_then_it_says_so_and_is_local(tmp_path: Path) -> None:
    said: list[str] = []
    async with AsyncExitStack() as stack:
        assert await _golem(tmp_path, None, stack, said.append) == (None, {"backend": "local"})
    assert "no disk" in said[-1]


@pytest.mark.parametrize("asked", ["folder", "option", "environment"])
async def test_given_golem_was_used_or_asked_for_when_the_network_does_not_start_then_that_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    if asked == "folder":
        (tmp_path / "deployment.json").write_text(json.dumps({"backend": "golem"}))
    elif asked == "environment":
        monkeypatch.setenv("SIBYL_BACKEND", "golem")
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigurationError, match="no disk") as caught:
            await _golem(tmp_path, "golem" if asked == "option" else None, stack, lambda _: None)
    assert "Free some space." in caught.value.remedy
    assert "--backend local" in caught.value.remedy


async def test_given_a_folder_that_used_golem_when_local_is_asked_for_then_it_is_local(tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_text(json.dumps({"backend": "golem"}))
    async with AsyncExitStack() as stack:
        assert await _golem(tmp_path, "local", stack, lambda _: None) == (None, {"backend": "local"})


def test_given_other_images_beside_the_shipped_ones_then_the_network_has_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(folder: str) -> BuiltImage:
        return BuiltImage(tmp_path / f"{folder}.gvmi", folder, "", 0, (), {})

    monkeypatch.setattr("provider_images.builder.build_image", built)
    for name in ("mnist", "mask_rcnn", "densenet121"):
        (tmp_path / f"{name}.json").touch()
    names = ("mnist.json", "mask_rcnn.json", "densenet121.json")
    assert provider_images(lambda _: None) == [str(tmp_path / name) for name in names]
