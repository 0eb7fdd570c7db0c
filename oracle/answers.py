"""The compact answer that travels on-chain, as Solidity's ``ClassificationAnswer`` and ``SegmentationAnswer`` read it.

Big-endian both. A classification is one word: version 1 | kind 1 | count | familiarity | count x (class index uint16,
confidence uint16 in basis points) | zeros. A segmentation is a head of one word, version 1 | kind 2 | listed |
familiarity | found uint16 | width uint16 | height uint16 | zeros, then for each listed instance 16 bytes: class index
uint16, score uint16 in basis points, box y1, x1, y2, x2 uint16 each, area uint32. Familiarity 0 means "not measured".
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

VERSION = 1
KIND_CLASSIFICATION = 1
KIND_SEGMENTATION = 2
MAX_ENTRIES = 7
MAX_INSTANCES = 31
WORD = 32
INSTANCE = 16  # bytes


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
        entries = tuple(AnswerEntry(*pair) for pair in struct.iter_unpack(">HH", word[4:end]))
        shares = [10_000, *(entry.confidence_bps for entry in entries)]
        if any(a < b for a, b in pairwise(shares)):
            raise ValueError("confidences are above one, or do not fall")
        return cls(entries, familiarity)


@dataclass(frozen=True, slots=True)
class AnswerInstance:
    """One instance of a segmentation answer; box in pixels (y1, x1, y2, x2), y2 and x2 outside; area in pixels."""

    class_index: int
    score_bps: int
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True, slots=True)
class SegmentationAnswer:
    """What a contract can read of a segmentation: up to 31 of the instances found, by falling score."""

    instances: tuple[AnswerInstance, ...]
    found: int
    width: int
    height: int
    familiarity: int = 0

    def encode(self) -> bytes:
        """The head and the instances, 32 + 16 n bytes. Raises ValueError when a field is out of range."""
        self._check()
        answer = struct.pack(
            *(">BBBBHHH22x", VERSION, KIND_SEGMENTATION, len(self.instances)),
            *(self.familiarity, self.found, self.width, self.height),
        )
        for one in self.instances:
            answer += struct.pack(">HH4HI", one.class_index, one.score_bps, *one.box, one.area)
        return answer

    @classmethod
    def decode(cls, answer: bytes) -> SegmentationAnswer:
        """Read an answer back. Raises ValueError when it is not a segmentation answer of this version."""
        if len(answer) < WORD:
            raise ValueError(f"an answer has at least {WORD} bytes, not {len(answer)}")
        version, kind, listed, familiarity, found, width, height = struct.unpack(">BBBBHHH", answer[:10])
        if version != VERSION or kind != KIND_SEGMENTATION or any(answer[10:WORD]):
            raise ValueError(f"not a segmentation answer: version {version}, kind {kind}")
        if len(answer) != WORD + INSTANCE * listed:
            raise ValueError(f"{len(answer)} bytes for {listed} instances")
        instances = tuple(
            AnswerInstance(index, score, (y1, x1, y2, x2), area)
            for index, score, y1, x1, y2, x2, area in struct.iter_unpack(">HH4HI", answer[WORD:])
        )
        read = cls(instances, found, width, height, familiarity)
        read._check()
        return read

    def _check(self) -> None:
        """Raises ValueError for whatever Solidity's library would refuse."""
        if not len(self.instances) <= min(MAX_INSTANCES, self.found) <= self.found <= 0xFFFF:
            raise ValueError(f"{len(self.instances)} instances listed of {self.found}; at most {MAX_INSTANCES} fit")
        if not (1 <= self.width <= 0xFFFF and 1 <= self.height <= 0xFFFF and 0 <= self.familiarity <= 255):
            raise ValueError(f"out of range: {self.width} x {self.height} pixels, familiarity {self.familiarity}")
        last = 10_000
        for one in self.instances:
            y1, x1, y2, x2 = one.box
            if not (0 <= y1 < y2 <= self.height and 0 <= x1 < x2 <= self.width and 0 <= one.class_index <= 0xFFFF):
                raise ValueError(f"out of range: {one}")
            if not (0 <= one.score_bps <= last and 0 <= one.area <= (y2 - y1) * (x2 - x1)):
                raise ValueError(f"out of range or out of order: {one}")
            last = one.score_bps


Answer = ClassificationAnswer | SegmentationAnswer


def decode_answer(answer: bytes) -> Answer:
    """Whatever a report carried. Raises ValueError for an answer of another form."""
    if answer[1:2] == bytes([KIND_SEGMENTATION]):
        return SegmentationAnswer.decode(answer)
    return ClassificationAnswer.decode(answer)


def tally(labels: Iterable[str]) -> str:
    """How many there are of each, the most frequent first: ``2 x star, circle``."""
    counted = sorted(Counter(labels).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(label if count == 1 else f"{count} x {label}" for label, count in counted) or "nothing"
