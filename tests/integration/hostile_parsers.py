"""Parsers that do what a sandbox has to survive; they run in the warden, which finds them by PYTHONPATH.

The document's text says what to do, so that one sandbox can be shown all of it.
"""

import ctypes
import os
import signal
import time
from pathlib import Path

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import Limits
from redoubt.ingest.parse import parse as parse_well
from redoubt.model import ParsedDocument, Reason


def parse(data: bytes, name: str, *, limits: Limits) -> ParsedDocument:
    """Obey the first word of the document; parse it as usual if that is no order."""
    order, _, rest = data.decode(errors="replace").partition(" ")
    if act := _ACTS.get(order):
        act(rest.strip())
    return parse_well(data, name, limits=limits)


def _hang(mark: str) -> None:
    if mark:
        Path(mark).symlink_to(str(os.getpid()))
    time.sleep(3600)


def _spin(_: str) -> None:
    while True:
        pass


def _eat(_: str) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(10_000_000))


def _eat_native(_: str) -> None:
    """As native code does it: touch memory until there is none, then abort."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while block := libc.malloc(ctypes.c_size_t(10_000_000)):
        ctypes.memset(block, 1, 10_000_000)
    os.abort()


def _segfault(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _fail(rest: str) -> None:
    raise RuntimeError(f"unexpected: {rest}")


def _reject(rest: str) -> None:
    raise DocumentRejected(Reason.CORRUPT, "broken", why=rest)


def _print(rest: str) -> None:
    os.write(1, rest.encode())
    os.write(2, rest.encode())


def _write(rest: str) -> None:
    """Leave an answer that is none in every open descriptor."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"{" + rest.encode())
        except OSError:
            continue
    os._exit(0)


_ACTS = {
    "hang": _hang,
    "spin": _spin,
    "eat": _eat,
    "eat-native": _eat_native,
    "abort": lambda _: os.abort(),
    "segfault": _segfault,
    "exit": lambda _: os._exit(3),
    "fail": _fail,
    "reject": _reject,
    "print": _print,
    "write": _write,
}
