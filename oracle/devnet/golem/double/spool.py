"""File transfer of the double: a stub of the ``gftp`` executable, and the provider's side of its spool.

yapapi starts ``gftp server`` from PATH and speaks JSON-RPC with it, a line each. The stub notes every published or
awaited file in a folder that the double reads. It is run as a script, so it imports only the standard library.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_VERSION = "0.7.3 (sibyl double)"
_NAME_LENGTH = 65


class Spool:
    """The folder where published and awaited files are noted, by the name in their URL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def note(self, name: str, path: str) -> None:
        """A URL ending in ``name`` now stands for the file at ``path``."""
        (self._directory / name).write_text(path)

    def forget(self, name: str) -> bool:
        """The URL stands for nothing any more; false when it never did."""
        known = (self._directory / name).is_file()
        (self._directory / name).unlink(missing_ok=True)
        return known

    def path(self, url: str) -> Path:
        """The file that a ``gftp://`` URL stands for. Raises LookupError."""
        scheme, _, rest = url.partition("://")
        name = rest.rpartition("/")[2]
        if scheme != "gftp":
            raise LookupError(f"Transfer error: unsupported scheme: {scheme}")
        if not name.isalnum() or not (self._directory / name).is_file():
            raise LookupError(f"Transfer error: file not published: {url}")
        return Path((self._directory / name).read_text())


def install(directory: Path, spool: Path, node_id: str) -> None:
    """Write an executable ``gftp`` into ``directory`` that notes its files in ``spool`` under this node's name."""
    directory.mkdir(parents=True, exist_ok=True)
    command = shlex.join([sys.executable, "-I", "-S", __file__, str(spool), node_id])
    executable = directory / "gftp"
    executable.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    executable.chmod(0o755)


class _Stub:
    def __init__(self, spool: Spool, node_id: str) -> None:
        self._spool, self._node_id = spool, node_id
        self._mine: set[str] = set()
        self.done = False
        self._methods: dict[str, Callable[[dict[str, Any]], Any]] = {
            "version": lambda _: _VERSION,
            "publish": lambda asked: [self._publish(file) for file in asked["files"]],
            "receive": lambda asked: self._receive(asked["output_file"]),
            "close": lambda asked: ["ok" if self._close(url) else "error" for url in asked["urls"]],
            "shutdown": lambda _: self._shutdown(),
        }

    def answer(self, line: str) -> dict[str, Any]:
        """One JSON-RPC call."""
        call = json.loads(line)
        reply = {"jsonrpc": "2.0", "id": call.get("id")}
        method = self._methods.get(call["method"])
        if method is None:
            return {**reply, "error": {"code": -32601, "message": f"unknown method {call['method']}"}}
        try:
            return {**reply, "result": method(call.get("params") or {})}
        except (OSError, LookupError) as error:
            return {**reply, "error": {"code": -32000, "message": str(error)}}

    def end(self) -> None:
        """Forget what was published."""
        for name in self._mine:
            self._spool.forget(name)

    def _publish(self, file: str) -> dict[str, str]:
        with Path(file).open("rb") as content:
            name = hashlib.file_digest(content, "sha3_256").hexdigest()
        return self._link(name, file)

    def _receive(self, file: str) -> dict[str, str]:
        return self._link(
            "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_NAME_LENGTH)), file
        )

    def _link(self, name: str, file: str) -> dict[str, str]:
        self._spool.note(name, str(Path(file).absolute()))
        self._mine.add(name)
        return {"file": file, "url": f"gftp://{self._node_id}/{name}"}

    def _close(self, url: str) -> bool:
        name = url.rpartition("/")[2]
        self._mine.discard(name)
        return self._spool.forget(name)

    def _shutdown(self) -> str:
        self.done = True
        return "ok"


def main() -> None:
    """``spool.py SPOOL NODE_ID server``: answer on standard input and output until it ends."""
    stub = _Stub(Spool(Path(sys.argv[1])), sys.argv[2])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(stub.answer(line)) + "\r\n")
        sys.stdout.flush()
        if stub.done:
            break
    stub.end()


if __name__ == "__main__":
    main()
