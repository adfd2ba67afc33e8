"""Processes, named so that they cannot be mistaken: pid and start time, watched and signalled by pidfd.

What belongs to a site is found even without its parent, by what it cannot lose: the mark in its environment
(`REDOUBT_MARK`), or, since Postgres and vLLM write their titles over theirs, the log that it speaks to and the
data directory that it stands in.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MARK = "REDOUBT_MARK"
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


class Identity(NamedTuple):
    """One process, for as long as the machine runs."""

    pid: int
    started: int  # clock ticks since boot


def boot_id() -> str:
    """What differs after every boot: start times count from there."""
    return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state (field 3) on; the name before may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None


def identify(pid: int) -> Identity | None:
    """The process that has this pid now; None if there is none, or only its zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else Identity(pid, int(fields[19]))


def named(child: subprocess.Popen[bytes]) -> Identity:
    """The identity of our own child, ended or not: until it is collected, its pid is nobody else's."""
    fields = _stat(child.pid)
    return Identity(child.pid, int(fields[19]) if fields else 0)


def alive(process: Identity | None) -> bool:
    """Whether exactly this process still runs."""
    return process is not None and identify(process.pid) == process


def send(process: Identity, number: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone. The pidfd is what makes it exact."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if identify(process.pid) != process:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


async def gone(process: Identity, timeout_s: float | None = None) -> bool:
    """Wait until this process has ended; False if `timeout_s` ran out first. It need not be our child."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        if identify(process.pid) != process:
            return True
        loop.add_reader(handle, ended.set)
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return True


class Trace(NamedTuple):
    """What a process and its descendants are recognised by."""

    mark: str  # how the mark in the environment begins
    log: Path  # where standard output or error go: a file, or the folder that it is in
    folder: Path | None = None  # where Postgres' backends stand

    def found_in(self, entry: Path) -> bool:
        """Whether the process of this /proc entry shows it."""
        for handle in ("2", "1"):
            with suppress(OSError):
                output = (entry / "fd" / handle).readlink()
                if self.log in (output, output.parent):
                    return True
        with suppress(OSError):
            wanted = f"{MARK}={self.mark}".encode()
            if any(item.startswith(wanted) for item in (entry / "environ").read_bytes().split(b"\0")):
                return True
        with suppress(OSError):
            return self.folder is not None and (entry / "cwd").readlink() == self.folder
        return False


def members(trace: Trace) -> Iterator[Identity]:
    """Every running process that shows the trace; never this one."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and trace.found_in(entry):
            found = identify(int(entry.name))
            if found is not None:
                yield found


def _tracks_shared_memory(process: Identity) -> bool:
    with suppress(OSError):
        return b"resource_tracker" in (_PROC / str(process.pid) / "cmdline").read_bytes()
    return False


async def end(trace: Trace) -> int:
    """Kill what shows the trace, and return how many that were.

    Python's resource trackers are given two seconds: they remove the shared memory of those that were killed.
    """
    killed: set[Identity] = set()
    for _ in range(50):
        found = list(members(trace))
        workers = [process for process in found if not _tracks_shared_memory(process)]
        for process in workers:
            send(process, signal.SIGKILL)
        await _all_gone(workers, 10.0)
        trackers = [process for process in found if process not in workers]
        if not await _all_gone(trackers, 2.0):
            for process in trackers:
                send(process, signal.SIGKILL)
            await _all_gone(trackers, 2.0)
        killed.update(workers)
        if not found:
            break
    return len(killed)


async def _all_gone(processes: Iterable[Identity], timeout_s: float) -> bool:
    return all(await asyncio.gather(*(gone(process, timeout_s) for process in processes)))


def launch(
    command: Sequence[str], *, mark: str, environment: Mapping[str, str], log: Path, account: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to `log`."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            command,
            env={**environment, MARK: mark},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
            user=account,
            group=account,
            extra_groups=[] if account else None,
            umask=0o077,
        )
    finally:
        os.close(handle)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans, so that they can be reaped."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(known: Iterable[int]) -> None:
    """Collect ended orphans that fell to us; the pids in `known` are collected by their owners."""
    spared = set(known)
    mine = str(os.getpid())
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) not in spared:
            fields = _stat(int(entry.name))
            if fields is not None and fields[0] == "Z" and fields[1] == mine:
                with suppress(ChildProcessError):
                    os.waitpid(int(entry.name), os.WNOHANG)


def ending(status: int | None) -> str:
    """How a process ended, for a person: from a `Popen.returncode`, None if it was not our child."""
    if status is None:
        return "ended while no supervisor watched, or under another parent"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def tail(path: Path, lines: int = 12, *, since: int = 0, longest: int | None = 500) -> list[str]:
    """The last lines of a log, from byte `since` on, each cut to `longest` characters."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(since, size), size - max(16_384, lines * 400)))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line[:longest] for line in text.splitlines() if line.strip()][-lines:]
