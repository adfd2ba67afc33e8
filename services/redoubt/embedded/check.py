"""Preflight: what this machine has, and whether that is enough, told before anything starts.

`collect` looks, `judge` decides and does no IO.
"""

import errno
import os
import pwd
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redoubt.embedded import vllm
from redoubt.embedded.postgres import ACCOUNT, packaged
from redoubt.embedded.state import Layout
from redoubt.errors import Environment

EMBEDDER_BYTES = 2_600_000_000  # vLLM with its three processes, measured
SITE_BYTES = 3_500_000_000  # all of it
DISK_BYTES = 1_000_000_000  # an empty cluster with its log, and the copied binaries
PYTHONS = ((3, 11), (3, 13))


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found."""

    python: tuple[int, int]
    port: int
    port_taken: bool
    port_holder: str  # "" if it cannot be told
    port_denied: bool  # it needs a privilege
    port_instead: int  # a free one
    memory_available: int  # bytes
    memory_limit: str  # what bounds it: "this machine", "this control group"
    disk_free: int  # bytes
    home: Path
    home_problem: str  # "" if it can be made and written
    blocked_at: Path | None  # the directory that Postgres' account cannot pass
    run: Path
    vllm_problem: Environment | None
    postgres_problem: Environment | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the preflight table."""

    check: str
    verdict: Literal["ok", "warning", "stop"]
    found: str
    fix: str = ""


def judge(facts: Facts) -> list[Finding]:
    """Every check's verdict; one "stop" and nothing is started."""
    return [
        _python(facts),
        _home(facts),
        _port(facts),
        _memory(facts),
        _disk(facts),
        _installed("embedder", facts.vllm_problem),
        _installed("postgres", facts.postgres_problem),
    ]


def _python(facts: Facts) -> Finding:
    version = ".".join(map(str, facts.python))
    if PYTHONS[0] <= facts.python <= PYTHONS[1]:
        return Finding("python", "ok", version)
    return Finding("python", "stop", version, "use Python 3.11, 3.12 or 3.13")


def _home(facts: Facts) -> Finding:
    if facts.home_problem:
        return Finding(
            "home", "stop", f"{facts.home}: {facts.home_problem}", "set REDOUBT_HOME to a folder of your own"
        )
    if facts.blocked_at is not None:
        return Finding(
            "home",
            "stop",
            f"{facts.home}: Postgres does not run as root, and its account {ACCOUNT!r} cannot pass {facts.blocked_at}",
            f"set REDOUBT_HOME to a folder outside it, as /var/lib/redoubt, or run `chmod o+x {facts.blocked_at}`",
        )
    apart = "" if facts.run.is_relative_to(facts.home) else f"; its sockets in {facts.run}, for a short path"
    return Finding("home", "ok", f"{facts.home}{apart}")


def _port(facts: Facts) -> Finding:
    other = f"choose another: `redoubt up --port {facts.port_instead}`"
    if facts.port_denied:
        return Finding("port", "stop", f"{facts.port} is for privileged processes", other)
    if not facts.port_taken:
        return Finding("port", "ok", f"{facts.port} is free")
    by = f", by {facts.port_holder}" if facts.port_holder else ""
    return Finding("port", "stop", f"{facts.port} is taken{by}", f"{other}, or end what holds it")


def _memory(facts: Facts) -> Finding:
    found = f"{_gigabytes(facts.memory_available)} available on {facts.memory_limit}"
    wanted = f"{_gigabytes(SITE_BYTES)} wanted, {_gigabytes(EMBEDDER_BYTES)} of it for the embedder"
    if facts.memory_available >= SITE_BYTES:
        return Finding("memory", "ok", f"{found}; {wanted}")
    if facts.memory_available >= EMBEDDER_BYTES:
        return Finding("memory", "warning", f"{found}; {wanted}", "close something if the embedder is killed")
    return Finding("memory", "stop", f"{found}; {wanted}", "free some memory, or use a larger machine")


def _disk(facts: Facts) -> Finding:
    found = f"{_gigabytes(facts.disk_free)} free"
    if facts.disk_free >= DISK_BYTES:
        return Finding("disk", "ok", found)
    return Finding(
        "disk", "stop", f"{found}, {_gigabytes(DISK_BYTES)} wanted", "free some, or set REDOUBT_HOME elsewhere"
    )


def _installed(name: str, problem: Environment | None) -> Finding:
    if problem is None:
        return Finding(name, "ok", "installed")
    return Finding(name, "stop", f"{problem.what}: {problem.why}", problem.fix)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def collect(layout: Layout, port: int) -> Facts:
    """Look at this machine; changes nothing."""
    problem = port_problem(port)
    available, limit = memory_available()
    return Facts(
        python=sys.version_info[:2],
        port=port,
        port_taken=problem == errno.EADDRINUSE,
        port_holder=port_holder(port) if problem == errno.EADDRINUSE else "",
        port_denied=problem == errno.EACCES,
        port_instead=_free_port(port) if problem else port,
        memory_available=available,
        memory_limit=limit,
        disk_free=shutil.disk_usage(_existing(layout.home)).free,
        home=layout.home,
        home_problem=_home_problem(layout.home),
        blocked_at=_blocked_at(layout.home) if os.geteuid() == 0 else None,
        run=layout.run,
        vllm_problem=_problem(lambda: vllm.model(vllm.interpreter())),
        postgres_problem=_problem(packaged),
    )


def port_problem(port: int) -> int:
    """Why the gateway could not listen there, as an errno; 0 if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return 0


def _free_port(near: int) -> int:
    return next((port for port in range(max(near, 1024) + 1, 65_536) if not port_problem(port)), 0)


def port_holder(port: int) -> str:
    """Who listens on a port, as "name (pid)"; "" if it belongs to another account."""
    inodes = set(_listening(port))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            for handle in (entry / "fd").iterdir():
                with suppress(OSError):
                    if str(handle.readlink()) in inodes:
                        name = (entry / "comm").read_text("utf-8", "replace").strip()
                        return f"{name} (pid {entry.name})"
    return ""


def _listening(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"


def memory_available() -> tuple[int, str]:
    """Bytes that can be had without swapping, and what bounds them: the machine, or our control group."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    machine = int(lines["MemAvailable"].split()[0]) * 1024
    group = _group_memory()
    return (group, "this control group") if group is not None and group < machine else (machine, "this machine")


def _group_memory() -> int | None:
    """What the tightest control group above us leaves; None without a limit (version 2 only)."""
    with suppress(OSError, ValueError):
        own = next(
            line.split(":", 2)[2]
            for line in Path("/proc/self/cgroup").read_text("ascii").splitlines()
            if line.startswith("0:")
        )
        left: list[int] = []
        folder = Path("/sys/fs/cgroup") / own.lstrip("/")
        while folder.is_relative_to("/sys/fs/cgroup"):
            with suppress(OSError, ValueError):
                limit = int((folder / "memory.max").read_text("ascii"))
                left.append(limit - int((folder / "memory.current").read_text("ascii")))
            folder = folder.parent
        return min(left, default=None)
    return None


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _home_problem(home: Path) -> str:
    nearest = _existing(home)
    if not nearest.is_dir():
        return f"{nearest} is not a directory"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} cannot be written"
    if home.exists() and home.stat().st_uid != os.geteuid():
        return f"it belongs to {_account_name(home.stat().st_uid)}"
    return ""


def _account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _blocked_at(home: Path) -> Path | None:
    """The first directory above the home that Postgres' account may not pass; nothing is opened for it."""
    try:
        entry = pwd.getpwnam(ACCOUNT)
        uid, groups = entry.pw_uid, set(os.getgrouplist(ACCOUNT, entry.pw_gid))
    except KeyError:
        uid, groups = -1, set()  # it will be made, without any rights
    for folder in [*reversed(home.parents), home]:
        if folder.exists():
            found = folder.stat()
            bit = stat.S_IXOTH
            if found.st_uid == uid:
                bit = stat.S_IXUSR
            elif found.st_gid in groups:
                bit = stat.S_IXGRP
            if not found.st_mode & bit:
                return folder if folder != home else None  # the home's own mode is ours to set
    return None


def _problem(look: Callable[[], object]) -> Environment | None:
    try:
        look()
    except Environment as error:
        return error
    return None
