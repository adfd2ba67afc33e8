"""What an embedded site knows about itself between processes: where its files are, and who runs.

The supervisor alone writes `run/state.json`, whole and atomically; everyone else reads it. A process is named
by its pid and its start time, so that a recycled pid is never taken for ours.
"""

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redoubt.embedded.process import Identity, boot_id
from redoubt.errors import Environment

SOCKET_PATH_MAX = 107  # bytes, of sockaddr_un
_LONGEST = len("/services/tmp/") + 36  # vLLM names its inner sockets by UUID

Phase = Literal["starting", "ready", "degraded", "stopping", "stopped", "failed"]
ChildState = Literal["waiting", "starting", "ready", "unwell", "crashed", "stopped"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of a home. Sockets move to a short directory when the home's path is too long for them."""

    home: Path

    def __post_init__(self) -> None:
        # Processes are recognised by paths as the kernel shows them: without links.
        object.__setattr__(self, "home", self.home.resolve())

    @property
    def run(self) -> Path:
        """Where sockets live; `home/run` unless that is too long."""
        inside = self.home / "run"
        if len(os.fsencode(inside)) + _LONGEST <= SOCKET_PATH_MAX:
            return inside
        # Not XDG_RUNTIME_DIR: it is emptied at logout, and a site outlives the session that started it.
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:10]
        return Path("/tmp") / f"redoubt-{os.geteuid()}-{digest}"  # noqa: S108  owner and mode are checked

    @property
    def services(self) -> Path:
        """The sockets of our own processes: nobody else may enter (`REDOUBT_RUN_DIR`)."""
        return self.run / "services"

    @property
    def postgres(self) -> Path:
        """The directory of Postgres' socket, its own."""
        return self.run / "postgres"

    @property
    def scratch(self) -> Path:
        """Temporary files of the embedder."""
        return self.services / "tmp"

    @property
    def embedder_socket(self) -> Path:
        return self.services / "embed.sock"

    @property
    def ingest_socket(self) -> Path:
        return self.services / "ingest.sock"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def logs(self) -> Path:
        return self.home / "log"

    @property
    def site(self) -> Path:
        return self.home / "site.toml"

    @property
    def key(self) -> Path:
        return self.home / "key"

    @property
    def state(self) -> Path:
        return self.home / "run" / "state.json"

    def lock(self, name: Literal["up", "supervisor"]) -> Path:
        """A file to flock."""
        return self.home / "run" / f"{name}.lock"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Make the directories; nothing above the home is touched."""
        # Root's Postgres runs under an account of its own that must pass through, without listing.
        passage = 0o711 if os.geteuid() == 0 else 0o700
        self.home.mkdir(parents=True, exist_ok=True, mode=passage)
        for path, mode in (
            (self.home / "run", passage),
            (self.run, passage),
            (self.services, 0o700),
            (self.scratch, 0o700),
            (self.logs, 0o700),
        ):
            path.mkdir(exist_ok=True, mode=mode)
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise Environment(
                    f"{path} is not ours",
                    why="it is a link, a file, or belongs to another account",
                    fix=f"remove it, or choose another home with REDOUBT_HOME (now {self.home})",
                )
            path.chmod(mode)


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Crash(_Model):
    """The last time that a process ended without being asked to."""

    at: float  # Unix time
    how: str  # "exit status 1", "signal SIGKILL"
    log: list[str]  # its last lines


class Child(_Model):
    """One supervised process."""

    name: str
    state: ChildState = "waiting"
    detail: str = ""
    pid: int | None = None
    started: int | None = None  # clock ticks since boot
    launched_at: float | None = None  # Unix time
    ready_at: float | None = None
    restarts: int = 0
    failed_starts: int = 0  # in a row, without ever being ready
    last_crash: Crash | None = None

    @property
    def identity(self) -> Identity | None:
        return None if self.pid is None or self.started is None else Identity(self.pid, self.started)


class SiteState(_Model):
    """`state.json`."""

    name: str
    port: int
    phase: Phase = "starting"
    boot: str = Field(default_factory=boot_id)
    pid: int | None = None  # the supervisor
    started: int | None = None
    began_at: float = 0.0  # Unix time of the site's start
    error: dict[str, str] | None = None  # why it could not start
    notes: list[str] = Field(default_factory=list)  # what was changed on this machine
    steps: dict[str, float] = Field(default_factory=dict)  # seconds of what is done once a start
    children: dict[str, Child] = Field(default_factory=dict)

    @property
    def supervisor(self) -> Identity | None:
        return None if self.pid is None or self.started is None else Identity(self.pid, self.started)


def read(layout: Layout) -> SiteState | None:
    """The last state that was written, None if there is none; of another boot, no process in it is alive."""
    try:
        found = SiteState.model_validate_json(layout.state.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except PermissionError as error:
        raise Environment(
            f"{layout.state} may not be read",
            why=f"the site belongs to {layout.home.owner()}",
            fix="act as that account, or set REDOUBT_HOME to a home of your own",
        ) from error
    if found.boot != boot_id():
        found.pid = found.started = None
        for child in found.children.values():
            child.pid = child.started = None
    return found


def write(layout: Layout, state: SiteState) -> None:
    """Replace the state: a reader sees the old one or the new one."""
    layout.state.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=layout.state.parent, prefix="state.", suffix=".new")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(state.model_dump_json(indent=1))
    Path(name).replace(layout.state)
