"""What a source is to the worker: a list of entries, the bytes of one, and word of what was touched."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

SIDECAR = ".meta.toml"


@dataclass(frozen=True, slots=True)
class Entry:
    """One document as a listing shows it, unread."""

    path: str  # relative to the source, "/" between parts; printable
    stamp: str  # changes whenever content may have; cheap; without "|"
    sidecar_stamp: str  # of the sidecar beside it; "" if there is none; without "|"
    changed_at: datetime  # the later of mtime and ctime, of the sidecar too
    modified_at: datetime  # mtime
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """What is there, and the paths of which that cannot be told: nothing at or below those counts as gone."""

    entries: tuple[Entry, ...]
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """A document's bytes, and the entry as it was when they were read."""

    entry: Entry
    data: bytes


class Source(Protocol):
    """A place that documents come from.

    - `list` sees each document once; what is no document (devices, sidecars) is left out, what is one but may not be
      read (a link leading out) comes with a reason in `read`. It raises OSError if the whole source is not there.
    - `read` raises `DocumentRejected` for what cannot be read, and `Vanished` for what is gone.
    - A change after `read` or `sidecar` gives another stamp than the one that the entry was listed or read with.
    - `sidecar` is None only where there is none: one that cannot be read raises `DocumentRejected`.
    - `touched` yields paths that may have changed, folders included, "." for all; it may miss some: a full listing
      mends that.
    """

    def list(self, under: Iterable[str] | None = None) -> Listing: ...
    def read(self, path: str) -> Content: ...
    def sidecar(self, path: str) -> bytes | None: ...
    def touched(self) -> AsyncIterator[set[str]]: ...


class Vanished(Exception):
    """The document was there a moment ago."""
