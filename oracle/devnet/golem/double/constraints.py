"""The market's language of constraints: parse ``(&(a>=1)(b=x*))`` and hold it against properties.

Three-valued: a property that is missing makes its term undefined, and only what is true matches.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Properties = Mapping[str, Any]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_TERM = re.compile(r"\s*([^()<>=\s]+)\s*(>=|<=|>|<|=)([^()]*)\)")
_MAX_DEPTH = 50


class ConstraintError(ValueError):
    """The text is no constraint."""


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison."""

    name: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Group:
    """``&``, ``|`` or ``!`` over its parts."""

    kind: str
    parts: tuple[Term | Group, ...]


Constraint = Term | Group


def parse(text: str) -> Constraint:
    """Read a constraint; ``()`` and empty text hold always. Raises ConstraintError."""
    if text.strip() in ("", "()"):
        return Group("&", ())
    constraint, end = _parse(text, 0, 0)
    if text[end:].strip():
        raise ConstraintError(f"unexpected {text[end:].strip()[:20]!r}")
    return constraint


def holds(constraint: Constraint, properties: Properties) -> bool | None:
    """True, False, or None where a missing property leaves it open."""
    if isinstance(constraint, Term):
        return _compare(constraint, properties)
    results = [holds(part, properties) for part in constraint.parts]
    match constraint.kind:
        case "&":
            return False if False in results else None if None in results else True
        case "|":
            return True if True in results else None if None in results else False
        case _:
            return None if results[0] is None else not results[0]


def mismatches(text: str, properties: Properties) -> list[str]:
    """Names of the properties that keep a constraint from holding; none where it holds. Raises ConstraintError."""
    constraint = parse(text)
    if holds(constraint, properties) is True:
        return []
    return sorted({term.name for term in _terms(constraint) if _compare(term, properties) is not True})


def _parse(text: str, at: int, depth: int) -> tuple[Constraint, int]:
    at = _skip(text, at)
    if depth > _MAX_DEPTH or text[at : at + 1] != "(":
        raise ConstraintError(f"'(' expected, not {text[at : at + 20]!r}")
    inner = _skip(text, at + 1)
    kind = text[inner : inner + 1]
    if kind in ("&", "|", "!"):
        parts: list[Constraint] = []
        at = _skip(text, inner + 1)
        while text[at : at + 1] == "(":
            part, at = _parse(text, at, depth + 1)
            parts.append(part)
            at = _skip(text, at)
        if text[at : at + 1] != ")" or (kind == "!" and len(parts) != 1):
            raise ConstraintError(f"')' expected, not {text[at : at + 20]!r}")
        return Group(kind, tuple(parts)), at + 1
    found = _TERM.match(text, inner)
    if found is None:
        raise ConstraintError(f"a comparison expected, not {text[inner : inner + 20]!r}")
    return Term(found[1], found[2], found[3].strip()), found.end()


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _terms(constraint: Constraint) -> Iterator[Term]:
    if isinstance(constraint, Term):
        yield constraint
    else:
        for part in constraint.parts:
            yield from _terms(part)


def _compare(term: Term, properties: Properties) -> bool | None:
    found = properties.get(term.name)
    if found is None:
        return None
    if term.operator == "=" and term.value == "*":
        return True
    if isinstance(found, Sequence) and not isinstance(found, str):
        return term.operator == "=" and any(_equal(item, term.value) for item in found)
    if term.operator == "=":
        return _equal(found, term.value)
    if isinstance(found, bool):
        return False
    if isinstance(found, int | float):
        number = _number(term.value)
        return number is not None and _OPERATORS[term.operator](float(found), number)
    return _OPERATORS[term.operator](str(found), term.value)


def _equal(found: object, value: str) -> bool:
    if isinstance(found, bool):
        return value.lower() == str(found).lower()
    if isinstance(found, int | float):
        return _number(value) == float(found)
    return fnmatch.fnmatchcase(str(found), re.sub(r"([\[\]?])", r"[\1]", value))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
