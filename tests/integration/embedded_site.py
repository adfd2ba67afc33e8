"""An embedded site as a person runs it, by the command alone; and what of it is left on the machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

REDOUBT = [sys.executable, "-m", "redoubt.cli.main"]


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.err.strip().splitlines()[-1])["error"]
        return found


@dataclass(frozen=True)
class Command:
    """`redoubt` on one home; `prefix` runs it as somebody else."""

    home: Path
    prefix: list[str] = field(default_factory=list)

    def __call__(self, *arguments: str, timeout: float = 280) -> Done:
        done = subprocess.run(
            [*self.prefix, *REDOUBT, *arguments],
            env={**os.environ, "REDOUBT_HOME": str(self.home)},
            cwd="/",
            capture_output=True,
            check=False,
            text=True,
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.prefix, *REDOUBT, *arguments], env={**os.environ, "REDOUBT_HOME": str(self.home)}, cwd="/"
        )

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "run" / "state.json").read_text())
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self("status", "--json").json
        return found

    def processes(self) -> dict[str, dict[str, Any]]:
        return {process["name"]: process for process in self.status()["processes"]}

    def pids(self) -> dict[str, int]:
        return {name: child["pid"] for name, child in self.state["children"].items()}


def until(condition: Callable[[], Any], seconds: float = 90, what: str = "") -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.1)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that names the home in its command line, environment, folder, or open files."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
            words += [str(handle.readlink()) for handle in Path(f"/proc/{process.pid}/fd").iterdir()]
        except (psutil.Error, OSError):
            continue
        if any(str(home) in word for word in words):
            found.append(process)
    return found


def shared_memory_of(home: Path) -> set[str]:
    """Names of shared memory that the home's processes have mapped, System V segments by number."""
    found = set()
    for process in processes_of(home):
        try:
            lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith("/dev/shm/"):
                found.add(fields[5].removesuffix(" (deleted)"))
            elif len(fields) == 6 and fields[5].startswith("/SYSV"):
                found.add(f"sysv {fields[4]}")
    return found


def shared_memory_left(names: set[str]) -> set[str]:
    """Those that are still there."""
    segments = {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
    left = {name for name in names if name.startswith("/dev/shm/") and Path(name).exists()}
    return left | {name for name in names if name.startswith("sysv ") and name.split()[1] in segments}


def sockets_below(folder: Path) -> list[Path]:
    """Every socket in a folder."""
    return [path for path in folder.rglob("*") if path.is_socket()]
