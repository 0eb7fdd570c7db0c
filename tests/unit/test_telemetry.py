"""The form of a log line."""

from __future__ import annotations

import logging
import re

import pytest

from oracle import telemetry
from oracle.chain import coordinator, scanner

pytestmark = pytest.mark.unit


def test_given_a_record_when_written_as_text_then_date_time_and_zone_lead_the_line() -> None:
    record = logging.makeLogRecord({"name": "sibyl.scanner", "levelname": "INFO", "msg": "a reorg", "blocks": 3})
    line = telemetry._Lines().format(record)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} info    sibyl\.scanner: a reorg blocks=3", line
    )


def test_given_a_message_with_a_strangers_line_break_when_written_as_text_then_it_stays_one_line() -> None:
    said = "no model a\n2026-11-20 info sibyl: all is well \x1b[31m\u202e…"
    record = logging.makeLogRecord({"name": "sibyl.api", "levelname": "INFO", "msg": said, "client": "x\ry"})
    line = telemetry._Lines().format(record)
    assert line.isprintable()
    assert line.endswith(r"no model a\n2026-11-20 info sibyl: all is well \x1b[31m\u202e… client=x\ry")


def test_given_the_rooms_of_the_chain_when_they_log_then_it_is_below_sibyl_where_the_level_is_set() -> None:
    assert (scanner._log.name, coordinator._log.name) == ("sibyl.scanner", "sibyl.chain")
