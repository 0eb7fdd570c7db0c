"""An oracle killed at random instructions, started again each time: no request lost, none answered twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from oracle.chain.account import Ask
from oracle.client import connect
from oracle.devnet.pictures import digits
from oracle.devnet.stack import Ports, run_stack
from oracle.domain import OnChainStatus, RequestSettled

REQUESTS = 48
KILLS = 6
SEED = 20


async def test_given_an_oracle_killed_again_and_again_when_it_comes_back_then_every_request_is_answered_once(
    tmp_path: Path,
) -> None:
    rng = random.Random(SEED)
    pictures = digits(REQUESTS).items
    notes: list[str] = []
    async with run_stack(tmp_path, ports=Ports(), progress=notes.append) as stack, connect(stack.settings) as client:
        model = (await client.model()).on_chain.model_id
        cids = await client.content.add([digit.png for digit in pictures])
        until = await client.deadline(3600)
        asked = await client.sender.request_inferences(
            client.reader.address, [Ask(model, cid, until) for cid in cids], window=REQUESTS
        )
        os.kill(stack.oracle.pid, signal.SIGKILL)
        for _ in range(KILLS):
            process = start_oracle(tmp_path)
            # TensorFlow takes seconds to load: some kills come before the first batch, some within the work.
            await asyncio.sleep(rng.uniform(0.5, 7.0))
            process.kill()
            process.wait()
        process = start_oracle(tmp_path)
        try:
            outcomes = [await client.wait(one.request_id, timeout=60) for one in asked]
            head = await client.reader.head()
            logs = await client.reader.events(0, head.number)
        finally:
            process.terminate()
            process.wait(20)
    assert [outcome.settled.status for outcome in outcomes] == [OnChainStatus.FULFILLED] * REQUESTS
    assert [outcome.label for outcome in outcomes] == [str(digit.value) for digit in pictures]
    times = Counter(event.request_id for event in logs if isinstance(event, RequestSettled))
    assert set(times.values()) == {1}
    assert len(times) == REQUESTS


def start_oracle(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "oracle.cli", "oracle", "--data-dir", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
