# ruff: noqa: PTH115, PTH116, PTH118, ASYNC240, D301  (names are bytes here: pathlib knows only text)
"""A folder as a source: recursive, filtered by patterns, watched where the system can, never followed out of."""

import asyncio
import errno
import os
import stat as modes
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from watchfiles import awatch
from wcmatch import glob

from redoubt.errors import DocumentRejected
from redoubt.ingest.sources.protocol import SIDECAR, Content, Entry, Listing, Vanished
from redoubt.model import Reason

_FLAGS = glob.GLOBSTAR | glob.DOTGLOB
_READ_TRIES = 3
_SETTLED_S = 0.05  # a file system's clock ticks some milliseconds apart: two changes within one tick look like one
_MAX_SIDECAR = 65_536  # bytes
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)  # a file's time may be anything; a catalogue's may not
_WATCHER_DIED = 0.5  # seconds before it is started anew


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AclRule(_Part):
    """Who may read what a pattern matches."""

    pattern: str
    groups: tuple[str, ...]

    @field_validator("groups")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_group(name) for name in value):
            raise ValueError("a group's name is not empty, has no blanks around it and no control characters")
        return value


class LanguageRule(_Part):
    """How what a pattern matches is analysed: a text-search configuration, or an ISO 639-1 code."""

    pattern: str
    config: str


class FolderConfig(_Part):
    """A folder source, as a source file describes it."""

    name: str | None = Field(None, description="the source's name; the folder's own name if left out")
    root: Path | None = Field(None, description="the folder; given on the command line instead, as a rule")
    include: tuple[str, ...] = Field(("**/*",), description="patterns of the files that are documents")
    exclude: tuple[str, ...] = Field(("**/.*", "**/.*/**", "**/~$*"), description="patterns of those that are not")
    sidecars: bool = Field(
        False, description="whether NAME.EXT.meta.toml may replace the pattern's groups and the date"
    )
    acl: tuple[AclRule, ...] = Field((), description="who may read: the first pattern that matches; none: nobody")
    language: tuple[LanguageRule, ...] = Field(
        (), description="how to analyse: the first pattern that matches; else detected"
    )
    max_bytes: int | None = Field(
        None, ge=1, description="largest accepted file, bytes; the worker's limit if left out"
    )

    @field_validator("include", "exclude")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(pattern.startswith("/") or not pattern for pattern in value):
            raise ValueError("patterns are relative to the folder, and not empty")
        return value


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern with `*`, `?` and `**` matches a path as a whole."""
    return bool(_compiled(pattern).match(path))


@lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> Any:
    return glob.compile(pattern, flags=_FLAGS)


def is_group(name: object) -> bool:
    """Whether this can be a group's name."""
    return isinstance(name, str) and bool(name) and name.strip() == name and name.isprintable()


class Folder:
    """Keeps `Source` over a directory tree."""

    def __init__(self, config: FolderConfig, max_bytes: int) -> None:
        if config.root is None:
            raise ValueError("a folder source needs its root")
        self._config = config
        self._root = os.fsencode(config.root)
        self._max_bytes = config.max_bytes or max_bytes

    def list(self, under: Iterable[str] | None = None) -> Listing:
        """All documents, or those at or below the given paths; raises OSError if the folder is not there."""
        if not modes.S_ISDIR(os.stat(self._root).st_mode):
            raise NotADirectoryError(os.fsdecode(self._root))
        found: dict[str, os.stat_result] = {}
        unseen: set[str] = set()
        for path in ["."] if under is None else under:
            self._look(_encode(path), found, unseen)
        return Listing(tuple(self._entry(path, state) for path, state in sorted(found.items())), tuple(sorted(unseen)))

    def read(self, path: str) -> Content:
        """The bytes of a document that did not change meanwhile."""
        for _ in range(_READ_TRIES):
            content = self._read_once(path)
            if content is not None:
                return content
        raise DocumentRejected(
            Reason.UNREADABLE, "the file kept changing while it was read", fix="it is tried again at its next change"
        )

    def sidecar(self, path: str) -> bytes | None:
        """The sidecar's bytes; None if there is none, or sidecars are not allowed here.

        One that is there and cannot be read raises `DocumentRejected`: what it says may be narrower than the patterns.
        """
        if not self._config.sidecars:
            return None
        try:
            with os.fdopen(self._open(path + SIDECAR), "rb") as file:
                _settle(os.fstat(file.fileno()))
                data = file.read(_MAX_SIDECAR + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DocumentRejected(
                Reason.SIDECAR, "the sidecar cannot be read", why=os.strerror(error.errno or 0)
            ) from error
        if len(data) > _MAX_SIDECAR:
            raise DocumentRejected(Reason.SIDECAR, f"the sidecar is larger than {_MAX_SIDECAR:,} bytes")
        return data

    async def touched(self) -> AsyncIterator[set[str]]:
        """Batches of touched paths, a few hundredths of a second after they were; "." whenever some may be missing."""
        root = os.fsdecode(self._root)
        while True:
            watched = _identity(root)
            try:
                async with aclosing(_events(root)) as batches:
                    async for names in batches:
                        if _identity(root) != watched:
                            break  # the watch is on a folder that went; another stands in its place, or none
                        if names:
                            paths = {_decode(os.fsencode(os.path.relpath(name, root))) for name in names}
                            yield {path.removesuffix(SIDECAR) for path in paths}
            except* RuntimeError:  # a name that is no UTF-8 ends it
                pass
            await asyncio.sleep(_WATCHER_DIED)
            yield {"."}

    def _look(self, relative: bytes, found: dict[str, os.stat_result], unseen: set[str]) -> None:
        """Add what is at or below a path; what the system does not let us see goes to `unseen`."""
        if relative in (b"", b"."):
            self._walk(self._root, b"", found, unseen)
            return
        full = os.path.join(self._root, relative)
        try:
            folder = modes.S_ISDIR(os.lstat(full).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError:
            unseen.add(_decode(relative))
            return
        if folder:
            self._walk(full, relative + b"/", found, unseen)
        else:
            self._add(full, _decode(relative), found, unseen)

    def _walk(self, folder: bytes, prefix: bytes, found: dict[str, os.stat_result], unseen: set[str]) -> None:
        stack = [(folder, prefix)]
        while stack:
            at, before = stack.pop()
            try:
                with os.scandir(at) as entries:
                    for entry in entries:
                        relative = before + entry.name
                        if entry.is_dir(follow_symlinks=False):
                            stack.append((entry.path, relative + b"/"))
                        else:
                            self._add(entry.path, _decode(relative), found, unseen)
            except (FileNotFoundError, NotADirectoryError):
                if not before:
                    raise
            except OSError:
                if not before:
                    raise
                unseen.add(_decode(before[:-1]))

    def _add(self, full: bytes, path: str, found: dict[str, os.stat_result], unseen: set[str]) -> None:
        """Note the state of a file that is a document by its kind and name."""
        if path.endswith(SIDECAR):
            return
        if not any(matches(path, pattern) for pattern in self._config.include):
            return
        if any(matches(path, pattern) for pattern in self._config.exclude):
            return
        try:
            state = os.lstat(full)
            if modes.S_ISLNK(state.st_mode):
                target = os.stat(full)
                if modes.S_ISDIR(target.st_mode) and not _inside(os.path.realpath(full), self._root):
                    found[path] = state  # not followed; `read` tells why
                    return
                state = target
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError) and error.errno != errno.ELOOP:
                unseen.add(path)
            return
        if modes.S_ISREG(state.st_mode):
            found[path] = state

    def _entry(self, path: str, state: os.stat_result) -> Entry:
        sidecar, changed = "", max(state.st_mtime, state.st_ctime)
        if self._config.sidecars:
            try:
                beside = os.lstat(os.path.join(self._root, _encode(path) + SIDECAR.encode()))
                sidecar = _stamp(beside)
                changed = max(changed, beside.st_mtime, beside.st_ctime)
            except OSError:
                pass
        return Entry(path, _stamp(state), sidecar, _utc(changed), _utc(state.st_mtime), state.st_size)

    def _read_once(self, path: str) -> Content | None:
        try:
            descriptor = self._open(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Vanished from error
        except OSError as error:
            raise DocumentRejected(
                Reason.UNREADABLE,
                "the file cannot be opened",
                why=os.strerror(error.errno or 0),
                fix="check its permissions",
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            before = os.fstat(file.fileno())
            if not modes.S_ISREG(before.st_mode):
                raise DocumentRejected(Reason.UNREADABLE, "it is no regular file")
            if before.st_size > self._max_bytes:
                raise DocumentRejected(
                    Reason.TOO_LARGE,
                    "the file is larger than is accepted",
                    why=f"{before.st_size:,} bytes, at most {self._max_bytes:,}",
                    fix="split it, or raise the source's max_bytes",
                )
            before = _settle(before, file.fileno())
            try:
                data = file.read(self._max_bytes + 1)
            except OSError as error:
                raise DocumentRejected(
                    Reason.UNREADABLE, "the file cannot be read", why=os.strerror(error.errno or 0)
                ) from error
            after = os.fstat(file.fileno())
        if _stamp(before) != _stamp(after) or len(data) != before.st_size:
            return None
        return Content(self._entry(path, before), data)

    def _open(self, path: str) -> int:
        """Open below the root only: a link may lead elsewhere in the folder, never out of it."""
        full = os.path.join(self._root, _encode(path))
        descriptor = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        real = os.readlink(f"/proc/self/fd/{descriptor}".encode())  # what was opened, whatever the name means by now
        if not _inside(real.removesuffix(b" (deleted)"), self._root):
            os.close(descriptor)
            raise DocumentRejected(
                Reason.OUTSIDE,
                "the link leads out of the source's folder",
                why="only what lies inside it is taken in",
                fix="put the file itself there, or add its folder as a source",
            )
        return descriptor


async def _events(root: str) -> AsyncGenerator[set[str], None]:
    """Names as they change; an empty set each second without."""
    async for changes in awatch(
        root, watch_filter=None, debounce=100, step=40, rust_timeout=1000, yield_on_timeout=True,
        ignore_permission_denied=True,
    ):  # fmt: skip
        yield {name for _, name in changes}


def _inside(real: bytes, root: bytes) -> bool:
    return real.startswith(os.path.realpath(root).rstrip(b"/") + b"/")


def _identity(root: str) -> tuple[int, int] | None:
    try:
        state = os.stat(root)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _settle(state: os.stat_result, descriptor: int | None = None) -> os.stat_result:
    """Wait until a change after this moment cannot carry the same times; returns the state then."""
    young = _SETTLED_S - (time.time() - max(state.st_mtime, state.st_ctime))
    if 0 < young <= _SETTLED_S:
        time.sleep(young)
    return state if descriptor is None else os.fstat(descriptor)


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}:{state.st_ino}"


def _utc(seconds: float) -> datetime:
    try:
        return min(datetime.fromtimestamp(seconds, UTC), _LATEST)
    except (ValueError, OverflowError, OSError):
        return _LATEST


def _decode(path: bytes) -> str:
    """Any name as storable text; bytes that are no UTF-8 are shown as \\xNN and found again by `_encode`."""
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace") if not _plain(path) else path.decode()


def _encode(path: str) -> bytes:
    """The inverse of `_decode`."""
    if "\\" not in path:
        return path.encode()
    out, raw, at = bytearray(), path.encode(), 0
    while at < len(raw):
        if raw[at : at + 2] == b"\\\\":
            out += b"\\"
            at += 2
        elif raw[at : at + 2] == b"\\x":
            out.append(int(raw[at + 2 : at + 4], 16))
            at += 4
        else:
            out.append(raw[at])
            at += 1
    return bytes(out)


def _plain(path: bytes) -> bool:
    try:
        return "\\" not in path.decode("utf-8")
    except UnicodeDecodeError:
        return False
