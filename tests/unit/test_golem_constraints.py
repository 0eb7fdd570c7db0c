"""The market's language of constraints, as the double reads it."""

from __future__ import annotations

import pytest

from oracle.devnet.golem.double.constraints import ConstraintError, holds, mismatches, parse

pytestmark = pytest.mark.unit

PROPERTIES = {
    "mem": 4.0,
    "threads": 2,
    "name": "vm-nvidia",
    "subnet": "public",
    "caps": ["vpn", "inet"],
    "multi": True,
    "version": "3",
    "inet?": 240,
}


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("", True),
        ("()", True),
        ("(mem>=4)", True),
        ("(mem>4)", False),
        ("(threads<10)", True),
        ("(threads<=1.5)", False),
        ("(threads=2.0)", True),
        ("(threads=two)", False),
        ("(threads>two)", False),
        ("(name=vm*)", True),
        ("(name=vm)", False),
        ("(name=*nvidia)", True),
        ("(name>va)", True),
        ("(subnet=*)", True),
        ("(caps=inet)", True),
        ("(caps=manifest)", False),
        ("(caps>a)", False),
        ("(multi=true)", True),
        ("(multi=false)", False),
        ("(multi>false)", False),
        ("(version>1)", True),
        ("(inet?=240)", True),
        ("(absent=1)", None),
        ("(absent=*)", None),
        ("(!(absent=1))", None),
        ("(!(mem>4))", True),
        ("(&(mem>=4)(absent=1))", None),
        ("(&(mem>4)(absent=1))", False),
        ("(|(mem>=4)(absent=1))", True),
        ("(|(mem>4)(absent=1))", None),
        ("(&)", True),
        ("(|)", False),
        ("(&(subnet=public)\n\t(|\n  (mem>4)\n  (threads>=2)\n)\n\t(name=vm-nvidia) )", True),
    ],
)
def test_a_constraint_holds_or_not_or_is_left_open(constraint: str, expected: bool | None) -> None:
    assert holds(parse(constraint), PROPERTIES) is expected


def test_mismatches_name_what_keeps_a_constraint_from_holding() -> None:
    assert mismatches("(&(mem>=8)(absent=1)(threads=2))", PROPERTIES) == ["absent", "mem"]
    assert mismatches("(|(mem>=8)(threads=2))", PROPERTIES) == []


@pytest.mark.parametrize(
    "text", ["(", "mem>4", "(mem)", "(mem>4", "(&(mem>4)", "((mem>4))", "(mem>4)(mem>4)", "(!(a=1)(b=1))", "(!" * 60]
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(ConstraintError):
        parse(text)
