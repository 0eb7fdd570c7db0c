"""The Golem network of this machine as a process, with a hand in the providers' copy of the image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oracle.compute.golem import GolemTerms, read_images
from oracle.devnet.golem.yagna import find_yagna
from oracle.errors import MissingTool
from provider_images.builder import BuiltImage, HostUnsupported, build_image

_MEDDLER = Path(__file__).with_name("double_runtime.py")
_SPOILER = Path(__file__).with_name("double_worker.py")


@dataclass
class GolemNetwork:
    """A running network: what it said when it was ready, where its state lies, and the image it runs."""

    ready: dict[str, Any]
    data: Path
    image: BuiltImage

    def terms(self) -> GolemTerms:
        """One worker and one try, so that a fault is seen; trusted providers, so that one who failed is asked again."""
        return GolemTerms(
            api_url=self.ready["yagna_api_url"],
            app_key=Path(self.ready["yagna_appkey_file"]).read_text().strip(),
            payment_network=self.ready["payment_network"],
            payment_driver=self.ready["payment_driver"],
            subnet=self.ready["subnet"],
            images=read_images(self.image.descriptor.parent),
            workers=1,
            tries=1,
            trusted=frozenset(provider["node_id"] for provider in self.ready["providers"]),
        )

    def pid(self, node_id: str) -> int:
        """The process of a provider now."""
        name = next(one["name"] for one in self.ready["providers"] if one["node_id"] == node_id)
        return int((self.data / "pids" / name).read_text())

    def behave(self, behaviour: str) -> None:
        """From the next task on, every provider's runtime does this."""
        (self._root / "behaviour").write_text(behaviour)

    def meddle(self) -> None:
        """Put the double in front of the runtime in the providers' unpacked image."""
        runtime = self._root / "usr/lib/python3/dist-packages/provider_images/runtime"
        if not (runtime / "honest.py").exists():
            (runtime / "__main__.py").rename(runtime / "honest.py")
        shutil.copy(_MEDDLER, runtime / "__main__.py")
        shutil.copy(_SPOILER, runtime / "double_worker.py")
        # Compiled files of an image are not looked at again.
        shutil.rmtree(runtime / "__pycache__", ignore_errors=True)
        self.behave("honest")

    @property
    def _root(self) -> Path:
        return self.data / "images" / self.image.sha3_224 / "root"


@contextmanager
def run_golem_network(data: Path, *options: str) -> Iterator[GolemNetwork]:
    """Start the network and stop it again; skips where this machine cannot run it."""
    try:
        find_yagna()
        image = build_image("mnist")
    except (HostUnsupported, MissingTool) as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "oracle.devnet.golem", "--data", str(data), "--image", str(image.descriptor)]
    with (data.parent / "network.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=log, env=os.environ.copy())
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (data.parent / "network.log").read_text()[-2000:]
            yield GolemNetwork(json.loads(line), data, image)
        finally:
            process.terminate()
            process.communicate(timeout=30)
