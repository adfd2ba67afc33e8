"""A whole embedded site for a measurement, in a home of its own, gone afterwards."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BenchSite:
    """Where it is and how it is asked."""

    home: Path
    url: str
    key: str

    def redoubt(self, *arguments: str) -> str:
        """Run the command line against this site; returns what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "redoubt.cli.main", *arguments],
            env=os.environ | {"REDOUBT_HOME": str(self.home)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def site() -> Iterator[BenchSite]:
    """Up when entered, down and removed when left."""
    home = Path(tempfile.mkdtemp(prefix="rdt-bench-", dir="/tmp"))
    home.chmod(0o711)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    unstarted = BenchSite(home / "home", "", "")
    try:
        told = json.loads(unstarted.redoubt("up", "--port", str(port), "--json"))
        yield BenchSite(unstarted.home, told["url"], told["key"])
    finally:
        unstarted.redoubt("down")
        shutil.rmtree(home, ignore_errors=True)
