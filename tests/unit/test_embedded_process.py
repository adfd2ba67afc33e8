"""Processes named so that they cannot be mistaken; locks that end with their holder; state that is whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redoubt.embedded import process
from redoubt.embedded.lock import Locked, holder, locked
from redoubt.embedded.process import (
    Identity,
    Trace,
    alive,
    end,
    ending,
    gone,
    identify,
    launch,
    named,
    reap,
    send,
    tail,
)
from redoubt.embedded.state import SOCKET_PATH_MAX, Child, Layout, SiteState, read, write
from redoubt.errors import Environment

pytestmark = pytest.mark.anyio

FAMILY = """
import os, subprocess, sys, time
# A child that leaves the process group and hides its environment and title, as Postgres and vLLM do.
child = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child], env={})
time.sleep(600)
"""


async def test_another_process_under_our_pid_is_not_ours() -> None:
    child = subprocess.Popen(["sleep", "600"])
    known = identify(child.pid)
    assert known is not None and alive(known)
    stale = Identity(known.pid, known.started - 1)
    assert not alive(stale)
    assert not send(stale, signal.SIGKILL)
    assert await gone(stale)
    assert not await gone(known, 0.05)
    assert send(known, signal.SIGKILL)
    assert await gone(known, 10)
    assert named(child) == known  # a zombie still says who it was
    assert identify(child.pid) is None
    child.wait()
    assert not send(known, signal.SIGKILL)


async def test_what_belongs_to_a_service_is_found_without_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    trace = Trace(f"{tmp_path}#service", log)
    parent = launch([sys.executable, "-c", FAMILY], mark=trace.mark, environment=os.environ, log=log)
    deadline = time.monotonic() + 20
    while not (log.exists() and log.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    orphan = int(log.read_text())
    parent.kill()
    parent.wait()
    assert [found.pid for found in process.members(trace)] == [orphan]
    assert list(process.members(Trace(f"{tmp_path}#serv", tmp_path / "other.log"))) == []
    assert await end(trace) == 1
    assert identify(orphan) is None


def test_orphans_are_collected_and_known_children_are_spared() -> None:
    known, unknown = subprocess.Popen(["true"]), subprocess.Popen(["true"])
    for child in (known, unknown):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    reap({known.pid, *(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())} - {unknown.pid})
    with pytest.raises(ChildProcessError):
        os.waitpid(unknown.pid, os.WNOHANG)
    assert known.wait() == 0
    unknown.returncode = 0


@pytest.mark.parametrize(("status", "said"), [(-9, "signal SIGKILL"), (3, "exit status 3"), (None, "no supervisor")])
def test_an_ending_is_told_to_a_person(status: int | None, said: str) -> None:
    assert said in ending(status)


def test_the_tail_of_a_log_begins_with_this_run(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("old\n" * 100)
    offset = log.stat().st_size
    with log.open("a") as file:
        file.write("new 1\n\nnew 2 " + "x" * 2000 + "\n")
    lines = tail(log, 12, since=offset)
    assert lines[0] == "new 1" and len(lines) == 2 and len(lines[1]) == 500
    assert tail(tmp_path / "none.log") == []


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert holder(path) is None
    with locked(path):
        assert holder(path) == identify(os.getpid())
        with pytest.raises(Locked), locked(path):
            pass
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    with locked(path):  # the child has not inherited it
        pass
    child.kill()
    child.wait()


def test_sockets_of_a_deep_home_lie_in_a_short_folder_of_our_own() -> None:
    assert Layout(Path("/var/lib/redoubt")).run == Path("/var/lib/redoubt/run")
    deep = Layout(Path("/srv") / ("d" * 90))
    assert deep.run.parent == Path("/tmp")
    assert deep.run != Layout(Path("/srv") / ("e" * 90)).run
    for layout in (deep, Layout(Path("/" + "d" * 40))):
        longest = layout.scratch / ("u" * 36)
        assert len(os.fsencode(longest)) <= SOCKET_PATH_MAX


def test_a_home_behind_a_link_is_known_by_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Layout(tmp_path / "link").home == tmp_path / "real"


def test_a_folder_that_somebody_else_prepared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    short = tmp_path / "short"
    short.symlink_to(trap)
    monkeypatch.setattr(Layout, "run", property(lambda self: short))
    with pytest.raises(Environment, match="not ours"):
        Layout(tmp_path / "home").prepare()


def test_state_is_replaced_whole_and_forgets_pids_of_another_boot(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert read(layout) is None
    child = Child(name="gateway", state="ready", pid=1, started=2)
    write(layout, SiteState(name="x", port=1, pid=3, started=4, children={"gateway": child}))
    found = read(layout)
    assert found is not None and found.children["gateway"].identity == Identity(1, 2)
    write(layout, SiteState(name="x", port=1, pid=3, started=4, boot="another", children={"gateway": child}))
    found = read(layout)
    assert found is not None and found.supervisor is None and found.children["gateway"].identity is None
    assert [path.name for path in layout.state.parent.iterdir()] == ["state.json"]
    layout.state.write_text('{"name": ')
    assert read(layout) is None
