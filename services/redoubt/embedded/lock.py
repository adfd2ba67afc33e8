"""Locks of a home: held by an open file, so that the kernel releases them however their holder ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redoubt.embedded.process import Identity, alive, identify


class Locked(Exception):
    """Somebody else holds it; `holder` may say who."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock, or raise `Locked` at once. Children do not inherit it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Locked(str(path)) from error
        mine = identify(os.getpid())
        assert mine is not None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{mine.pid} {mine.started}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(path: Path) -> Identity | None:
    """Who holds the lock, if it runs and has said so."""
    try:
        pid, started = path.read_text("ascii").split()
        found = Identity(int(pid), int(started))
    except (FileNotFoundError, ValueError):
        return None
    return found if alive(found) else None
