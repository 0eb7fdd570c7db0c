"""Logs: one line an event, ``key=value`` for people or JSON for machines, to standard error. Secrets never reach it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def logger(name: str) -> logging.Logger:
    """The logger of a room, below ``sibyl``."""
    return logging.getLogger(f"sibyl.{name}")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        local = time.localtime(record.created)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", local) + f".{int(record.msecs):03d}" + time.strftime("%z", local)
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        line = f"{at} {record.levelname.lower():7} {record.name}: " + _one_line(f"{record.getMessage()}{fields}")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: str(value) for key, value in _fields(record).items()},
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _one_line(text: str) -> str:
    """What strangers send is in some messages: a line break of theirs must not look like another line of ours."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def configure(level: str = "info", *, as_json: bool = False) -> None:
    """Send Sibyl's own logs to standard error at ``level``; other libraries only speak from warning upwards."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sibyl").setLevel(level.upper())


def short(identifier: bytes | str) -> str:
    """A hash or CID as people read it: first six characters, last four."""
    text = "0x" + identifier.hex() if isinstance(identifier, bytes) else identifier
    return text if len(text) <= 12 else f"{text[:6]}…{text[-4:]}"
