"""Several processes under one supervisor: real children, small programs that report what happens to them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from fetchq_worker.process import supervisor
from fetchq_worker.process.supervisor import Supervisor

WAITS = """
import asyncio, os, signal, sys, pathlib
from fetchq_worker.process.supervisor import SupervisorLink
folder = pathlib.Path(sys.argv[1])
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    SupervisorLink().stop_with_supervisor()
    (folder / str(os.getpid())).touch()
    await stopped.wait()
    (folder / f"{os.getpid()}.stopped").touch()
asyncio.run(main())
"""
IGNORES = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()
while True:
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def _supervisor(program: str, folder: Path, processes: int = 2) -> Supervisor:
    return Supervisor([sys.executable, "-c", program, str(folder)], processes, grace_s=0)


async def _wait_for(folder: Path, count: int, pattern: str = "[0-9]*") -> set[int]:
    """The pids of the children that have reported, once there are `count` of them."""
    async with asyncio.timeout(20):
        while len(found := {int(path.stem) for path in folder.glob(pattern)}) < count:
            await asyncio.sleep(0.01)
    return found


async def _wait_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in caplog.text:
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.asyncio
async def test_a_signal_to_the_supervisor_stops_every_child_cleanly(tmp_path: Path) -> None:
    running = asyncio.create_task(_supervisor(WAITS, tmp_path).run())
    pids = await _wait_for(tmp_path, 2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 20) == 0
    assert {int(path.stem) for path in tmp_path.glob("*.stopped")} == pids


@pytest.mark.asyncio
async def test_a_child_that_dies_is_replaced(tmp_path: Path) -> None:
    workers = _supervisor(WAITS, tmp_path)
    running = asyncio.create_task(workers.run())
    first = await _wait_for(tmp_path, 2)
    os.kill(min(first), signal.SIGKILL)
    assert len(await _wait_for(tmp_path, 3)) == 3
    workers.stop()
    assert await asyncio.wait_for(running, 20) == 0


STOPPED = """
import os, pathlib, sys
from fetchq_worker.process.supervisor import Report, SupervisorLink
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
SupervisorLink().report(Report.STOPPED)
"""


@pytest.mark.asyncio
async def test_a_child_that_a_signal_to_it_alone_stopped_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0, 600))
    workers = _supervisor(STOPPED, tmp_path, processes=1)
    running = asyncio.create_task(workers.run())
    await _wait_for(tmp_path, 2)
    await _wait_logged(caplog, "restart_in_s=600: a signal to it alone")
    workers.stop()
    assert await asyncio.wait_for(running, 20) == 0, "the signal was for all"


SAYS_ITS_GRACE = """
import pathlib, os, signal, sys, time
from fetchq_worker.process.supervisor import Report, SupervisorLink
link, told = SupervisorLink(), []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
link.report_grace(60.5)
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
while not told:
    time.sleep(0.01)
link.report(Report.STOPPED)
sys.exit(7)
"""


@pytest.mark.asyncio
async def test_a_child_has_the_grace_time_that_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "KILL_AFTER_S", 0.0)  # with the supervisor's own grace time it were killed at once
    monkeypatch.setattr(Supervisor, "_kill", lambda _: pytest.fail("killed"))
    workers = _supervisor(SAYS_ITS_GRACE, tmp_path, processes=1)
    running = asyncio.create_task(workers.run())
    await _wait_for(tmp_path, 1)
    workers.stop()
    assert workers._kill_timer is not None
    assert workers._kill_timer.when() - asyncio.get_running_loop().time() > 50
    assert await asyncio.wait_for(running, 20) == 0


FINISHES = """
import os, pathlib, sys
from fetchq_worker.process.supervisor import Report, SupervisorLink
(pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()
SupervisorLink().report(Report[sys.argv[2]])
sys.exit(int(sys.argv[3]))
"""


@pytest.mark.asyncio
async def test_children_that_have_finished_are_not_replaced(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FINISHES, str(tmp_path), "FINISHED", "0"]
    assert await asyncio.wait_for(Supervisor(command, 2, grace_s=0).run(), 20) == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [2, 3])
async def test_a_start_that_cannot_succeed_is_not_repeated_and_its_status_is_returned(
    tmp_path: Path, status: int
) -> None:
    command = [sys.executable, "-c", FINISHES, str(tmp_path), "CANNOT_START", f"{status}"]
    assert await asyncio.wait_for(Supervisor(command, 2, grace_s=0).run(), 20) == status


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["os._exit(0)", "os._exit(2)", "os._exit(3)", "os.kill(os.getpid(), 11)"])
async def test_a_child_that_ends_unasked_is_replaced_whatever_its_status(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0, 0, 600))
    program = f"import os, pathlib, sys; (pathlib.Path(sys.argv[1]) / str(os.getpid())).touch(); {end}"
    workers = _supervisor(program, tmp_path, processes=1)
    running = asyncio.create_task(workers.run())
    pids = await _wait_for(tmp_path, 3)
    await _wait_logged(caplog, "restart_in_s=600")
    assert workers.missing == 1
    workers.stop()
    assert await asyncio.wait_for(running, 20) == 1, "it was not running"
    status = {"os._exit(0)": "0", "os._exit(2)": "2", "os._exit(3)": "3"}.get(end, "SIGSEGV")
    lines = [line for line in caplog.messages if line.startswith("worker.ended")]
    assert len(lines) == 3
    for pid, line in zip(sorted(pids), sorted(lines), strict=True):
        assert f"number=0 pid={pid} status={status} run_s=" in line


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT])
async def test_signals_are_forwarded(tmp_path: Path, number: signal.Signals) -> None:
    program = WAITS.replace("signal.SIGTERM", str(number.value))
    workers = _supervisor(program, tmp_path)
    running = asyncio.create_task(workers.run())
    pids = await _wait_for(tmp_path, 2)
    os.kill(os.getpid(), number)
    assert await _wait_for(tmp_path, 2, "*.stopped") == pids
    workers.stop()
    await asyncio.wait_for(running, 20)


@pytest.mark.asyncio
async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "KILL_AFTER_S", 0.1)
    workers = _supervisor(IGNORES, tmp_path, processes=1)
    running = asyncio.create_task(workers.run())
    [pid] = await _wait_for(tmp_path, 1)
    workers.stop()
    assert await asyncio.wait_for(running, 20) == 0
    assert not _alive(pid)


COUNTS = """
import asyncio, os, signal, sys, pathlib
folder = pathlib.Path(sys.argv[1])
async def main():
    told = asyncio.Semaphore(0)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.release)
    asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, told.release)
    (folder / str(os.getpid())).touch()
    for number in range(2):
        await told.acquire()
        (folder / f"{os.getpid()}.{number}").touch()
asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_a_second_signal_reaches_the_children_as_sigquit_and_kills_none(tmp_path: Path) -> None:
    running = asyncio.create_task(_supervisor(COUNTS, tmp_path).run())
    pids = await _wait_for(tmp_path, 2)
    os.kill(os.getpid(), signal.SIGTERM)
    await _wait_for(tmp_path, 2, "*.0")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 20) == 0
    assert {int(path.stem) for path in tmp_path.glob("*.1")} == pids


@pytest.mark.asyncio
async def test_children_stop_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from fetchq_worker.process.supervisor import Supervisor; "
        "asyncio.run(Supervisor([sys.executable, '-c', sys.argv[1], sys.argv[2]], 2, grace_s=0).run())"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, WAITS, str(tmp_path))
    pids = await _wait_for(tmp_path, 2)
    parent.kill()
    await parent.wait()
    assert await _wait_for(tmp_path, 2, "*.stopped") == pids
