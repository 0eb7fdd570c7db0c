"""The sandbox that Golem's jobs run in: what they see, what they may use, and how they end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from tiny_image import PROGRAMS, VOLUME, make_root

from oracle.devnet.golem import sandbox as sandbox_module
from oracle.devnet.golem.sandbox import (
    MAX_OUTPUT,
    CommandTimeout,
    Finished,
    Limits,
    Sandbox,
    SandboxLost,
    SandboxRefused,
    probe,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("image") / "a root, with: odd characters")


@pytest.fixture
async def box(root: Path, tmp_path: Path) -> AsyncIterator[Sandbox]:
    made = Sandbox(root, {VOLUME: tmp_path}, Limits(memory=0.25, file=0.001, processes=32, open_files=32))
    await made.start()
    yield made
    await made.close()


async def shell(box: Sandbox, command: str, within: float = 10.0) -> Finished:
    return await box.run(["/bin/sh", "-c", command], within=within)


async def test_given_a_job_when_it_looks_around_then_it_sees_its_image_and_nothing_else(box: Sandbox) -> None:
    seen = await shell(box, "ls / /bin; cat /proc/net/dev; id; env")
    assert seen.code == 0, seen.stderr
    text = seen.stdout.decode()
    for name in ("golem", "proc", "dev", *PROGRAMS):
        assert name in text.split()
    assert "uid=0" in text
    devices = [line.split(":")[0].strip() for line in text.splitlines() if ":" in line and "|" not in line]
    assert "lo" in devices
    assert not {"eth0", "docker0", "ens3", "enp0s3"} & set(devices)
    assert "YAGNA" not in text
    processes = (await shell(box, "ls /proc")).stdout.decode().split()
    assert len([name for name in processes if name.isdigit()]) <= 3
    assert (await shell(box, "ls /home /root /work /var")).code != 0


async def test_given_a_job_when_it_writes_then_its_volume_keeps_it_and_its_image_does_not(
    box: Sandbox, root: Path, tmp_path: Path
) -> None:
    assert (await shell(box, f"echo kept > {VOLUME}/file; echo lost > /etc/file; cat /etc/file")).stdout == b"lost\n"
    assert (tmp_path / "file").read_text() == "kept\n"
    assert not (root / "etc" / "file").exists()
    assert (await shell(box, "dd if=/dev/zero of=/big bs=1000 count=1000")).code == 0
    fill = "i=0; while [ $i -lt 200 ]; do dd if=/dev/zero of=/f$i bs=1000000 count=1 || exit 9; i=$((i+1)); done"
    full = await shell(box, fill)
    assert full.code == 9
    assert b"No space left" in full.stderr


async def test_given_limits_when_a_job_goes_beyond_them_then_it_fails(box: Sandbox) -> None:
    file = await shell(box, f"dd if=/dev/zero of={VOLUME}/big bs=1000000 count=2")
    assert file.code != 0
    memory = await shell(box, "dd if=/dev/zero of=/dev/null bs=400000000 count=1")
    assert memory.code != 0
    assert b"memory" in memory.stderr
    forks = await shell(box, "i=0; while [ $i -lt 64 ]; do sleep 5 & i=$((i+1)); done; wait", within=4)
    assert forks.code != 0
    assert (await shell(box, "ulimit -n; ulimit -c")).stdout.split() == [b"32", b"0"]


async def test_given_a_job_when_it_reaches_for_privileges_then_it_has_none(box: Sandbox) -> None:
    status = (await shell(box, "cat /proc/self/status")).stdout.decode()
    capabilities = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    assert set(capabilities.values()) == {0}
    assert "NoNewPrivs:\t1" in status


async def test_given_a_job_of_root_when_it_reaches_for_the_machine_through_proc_and_dev_then_it_is_refused(
    box: Sandbox,
) -> None:
    # As root of the machine, the owner of these files; otherwise they are refused in any case.
    for file in ("/proc/sys/kernel/core_pattern", "/proc/self/oom_score_adj"):
        written = await shell(box, f"echo > {file}")
        assert written.code != 0
        assert b"Read-only file system" in written.stderr or b"ermission denied" in written.stderr
    mode = Path("/dev/null").stat().st_mode
    assert (await shell(box, "chmod 666 /dev/null")).code != 0
    assert Path("/dev/null").stat().st_mode == mode
    assert (await shell(box, "echo lost > /dev/null; head -c 4 /dev/urandom > /dev/zero")).code == 0


async def test_given_a_job_when_it_makes_namespaces_of_its_own_then_it_is_refused(box: Sandbox) -> None:
    if os.statvfs("/proc/sys").f_flag & os.ST_RDONLY:
        pytest.skip("the system's /proc cannot be written")
    made = await shell(box, "unshare --user /bin/id")
    assert made.code != 0
    assert b"unshare failed" in made.stderr


async def test_given_a_program_that_is_not_there_or_fails_when_run_then_its_code_says_so(box: Sandbox) -> None:
    assert (await box.run(["/bin/none"], within=5)).code == 127
    assert (await shell(box, "exit 7")).code == 7
    assert (await shell(box, "kill -9 $$")).code == -9


async def test_given_more_output_than_is_kept_when_run_then_the_job_goes_on_all_the_same(box: Sandbox) -> None:
    done = await shell(box, f"head -c {2 * MAX_OUTPUT} /dev/zero; head -c 5 /dev/zero >&2; exit 3")
    assert (done.code, len(done.stdout), len(done.stderr)) == (3, MAX_OUTPUT, 5)


async def test_given_a_command_that_takes_too_long_when_its_time_is_over_then_it_and_its_children_are_killed(
    box: Sandbox,
) -> None:
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        await shell(box, "sleep 77 & sleep 77", within=0.3)
    assert time.monotonic() - began < 2
    await asyncio.sleep(0.2)
    processes = await shell(box, "for p in /proc/[0-9]*; do cat $p/cmdline; echo; done")
    assert b"77" not in processes.stdout.replace(b"/proc/77", b"")


async def test_given_a_server_left_in_the_background_when_the_command_ends_then_it_stays_until_the_sandbox_does(
    box: Sandbox,
) -> None:
    began = time.monotonic()
    assert (await shell(box, "sleep 88 & echo started")).stdout == b"started\n"
    assert time.monotonic() - began < 3
    inside = [p for p in psutil.process_iter() if p.name() == "sleep" and "88" in p.cmdline()]
    assert len(inside) == 1
    await box.close()
    assert not inside[0].is_running()
    with pytest.raises(SandboxLost):
        await shell(box, "true")


async def test_given_a_sandbox_whose_first_process_is_killed_when_a_command_runs_then_it_is_lost(box: Sandbox) -> None:
    running = asyncio.create_task(shell(box, "sleep 99"))
    await asyncio.sleep(0.3)
    (maker,) = [p for p in psutil.Process().children() if "jail.py" in " ".join(p.cmdline())]
    (first,) = maker.children()
    family = first.children(recursive=True)
    assert family
    os.kill(first.pid, 9)
    with pytest.raises(SandboxLost):
        await running
    await asyncio.sleep(0.2)
    assert not any(process.is_running() for process in family)


async def test_given_work_when_it_has_used_the_processor_then_that_is_measured(box: Sandbox) -> None:
    before = await box.cpu_seconds()
    await shell(box, "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done")
    used = await box.cpu_seconds() - before
    assert 0.05 < used < 20
    assert await box.cpu_seconds() >= before + used


async def test_given_a_slow_machine_when_work_is_done_then_it_takes_longer(root: Path) -> None:
    work = "i=0; while [ $i -lt 700000 ]; do i=$((i+1)); done"
    ratios = []
    for speed in (1.0, 0.2):
        made = Sandbox(root, {}, Limits(speed=speed))
        await made.start()
        began = time.monotonic()
        assert (await shell(made, work, within=60)).code == 0
        ratios.append((time.monotonic() - began) / await made.cpu_seconds())
        await made.close()
    # Wall time over processor time: a busy machine lengthens both runs.
    assert ratios[1] > 2 * ratios[0]


async def test_given_a_machine_without_namespaces_when_probed_then_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await probe(tmp_path)
    assert not (tmp_path / "probe").exists()
    refusing = tmp_path / "jail.py"
    jail = Path(sandbox_module.__file__).with_name("jail.py").read_text()
    refusing.write_text(jail.replace("_libc.unshare(_NEW_NAMESPACES)", "_libc.unshare(-1)"))
    monkeypatch.setattr(sandbox_module, "JAIL", refusing)
    with pytest.raises(SandboxRefused, match="new namespaces") as caught:
        await probe(tmp_path)
    assert "user namespaces" in caught.value.remedy
    assert "local backend" in caught.value.remedy


async def test_given_a_root_that_is_not_there_when_started_then_the_sandbox_is_lost(tmp_path: Path) -> None:
    made = Sandbox(tmp_path / "none", {}, Limits())
    with pytest.raises(SandboxLost, match="No such file"):
        await made.start()
