"""The compact answer that travels on-chain: one 32-byte word, decoded in Solidity by ``ClassificationAnswer``.

Layout (big-endian): version 1 | kind | count | familiarity | count x (class index uint16, confidence uint16 in basis
points) | zeros. Familiarity 0 means "not measured".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

VERSION = 1
KIND_CLASSIFICATION = 1
MAX_ENTRIES = 7
WORD = 32


@dataclass(frozen=True, slots=True)
class AnswerEntry:
    """One class of a classification answer; confidence in basis points (0 to 10,000)."""

    class_index: int
    confidence_bps: int


@dataclass(frozen=True, slots=True)
class ClassificationAnswer:
    """What a contract can read of a classification: up to seven classes by falling confidence."""

    entries: tuple[AnswerEntry, ...]
    familiarity: int = 0

    def encode(self) -> bytes:
        """The 32-byte word. Raises ValueError when a field is out of range."""
        if not 1 <= len(self.entries) <= MAX_ENTRIES:
            raise ValueError(f"an answer holds 1 to {MAX_ENTRIES} classes, not {len(self.entries)}")
        if not 0 <= self.familiarity <= 255:
            raise ValueError(f"familiarity {self.familiarity} is not a byte")
        word = bytes((VERSION, KIND_CLASSIFICATION, len(self.entries), self.familiarity))
        for entry in self.entries:
            if not 0 <= entry.class_index <= 0xFFFF or not 0 <= entry.confidence_bps <= 10_000:
                raise ValueError(f"out of range: {entry}")
            word += struct.pack(">HH", entry.class_index, entry.confidence_bps)
        return word.ljust(WORD, b"\0")

    @classmethod
    def decode(cls, word: bytes) -> ClassificationAnswer:
        """Read a word back. Raises ValueError when it is not a classification answer of this version."""
        if len(word) != WORD:
            raise ValueError(f"an answer has {WORD} bytes, not {len(word)}")
        version, kind, count, familiarity = word[:4]
        if version != VERSION or kind != KIND_CLASSIFICATION or not 1 <= count <= MAX_ENTRIES:
            raise ValueError(f"not a classification answer: version {version}, kind {kind}, count {count}")
        end = 4 + 4 * count
        if any(word[end:]):
            raise ValueError("bytes after the last class are not zero")
        return cls(
            entries=tuple(AnswerEntry(*pair) for pair in struct.iter_unpack(">HH", word[4:end])),
            familiarity=familiarity,
        )
