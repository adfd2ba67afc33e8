# ruff: noqa: PTH115, PTH116, PTH118, ASYNC240, D301  (names are bytes here: pathlib knows only text)
"""A folder as a source: recursive, filtered by patterns, watched where the system can, never followed out of."""

import asyncio
import os
import stat as modes
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from watchfiles import awatch
from wcmatch import glob

from redoubt.errors import DocumentRejected
from redoubt.ingest.sources.protocol import SIDECAR, Content, Entry, Vanished
from redoubt.model import Reason

_FLAGS = glob.GLOBSTAR | glob.DOTGLOB | glob.NEGATE
_READ_TRIES = 3


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AclRule(_Part):
    """Who may read what a pattern matches."""

    pattern: str
    groups: tuple[str, ...]


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


@lru_cache(maxsize=100_000)
def matches(path: str, pattern: str) -> bool:
    """Whether a pattern with `*`, `?` and `**` matches a path as a whole."""
    return bool(glob.globmatch(path, pattern, flags=_FLAGS))


class Folder:
    """Keeps `Source` over a directory tree."""

    def __init__(self, config: FolderConfig, max_bytes: int) -> None:
        if config.root is None:
            raise ValueError("a folder source needs its root")
        self._config = config
        self._root = os.fsencode(config.root)
        self._max_bytes = config.max_bytes or max_bytes

    def list(self, under: Iterable[str] | None = None) -> list[Entry]:
        """All documents, or those at or below the given paths; raises OSError if the folder is not there."""
        if not modes.S_ISDIR(os.stat(self._root).st_mode):
            raise NotADirectoryError(os.fsdecode(self._root))
        if under is None:
            found = dict(self._walk(self._root, b""))
        else:
            found = {}
            for path in under:
                relative = _encode(path)
                found.update(self._at(relative))
        return [self._entry(path, state) for path, state in sorted(found.items())]

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
        """The sidecar's bytes; None if there is none, or sidecars are not allowed here."""
        if not self._config.sidecars:
            return None
        try:
            with os.fdopen(self._open(path + SIDECAR), "rb") as file:
                return file.read(65_536)
        except OSError:
            return None

    async def touched(self) -> AsyncIterator[set[str]]:
        """Batches of touched paths, a few hundredths of a second after they were."""
        root = os.fsdecode(self._root)
        async for changes in awatch(root, watch_filter=None, debounce=100, step=40, rust_timeout=1000, recursive=True):
            paths = {_decode(os.fsencode(os.path.relpath(name, root))) for _, name in changes}
            yield {path.removesuffix(SIDECAR) for path in paths if path != "."} or {"."}

    def _walk(self, folder: bytes, prefix: bytes) -> Iterator[tuple[str, os.stat_result]]:
        stack = [(folder, prefix)]
        while stack:
            at, before = stack.pop()
            try:
                with os.scandir(at) as entries:
                    for entry in entries:
                        relative = before + entry.name
                        if entry.is_dir(follow_symlinks=False):
                            stack.append((entry.path, relative + b"/"))
                        elif (found := self._candidate(entry.path, _decode(relative))) is not None:
                            yield _decode(relative), found
            except FileNotFoundError:
                continue  # removed while we looked
            except PermissionError:
                if not before:
                    raise

    def _at(self, relative: bytes) -> dict[str, os.stat_result]:
        if relative in (b"", b"."):
            return dict(self._walk(self._root, b""))
        full = os.path.join(self._root, relative)
        try:
            state = os.lstat(full)
        except OSError:
            return {}
        if modes.S_ISDIR(state.st_mode):
            return dict(self._walk(full, relative + b"/"))
        found = self._candidate(full, _decode(relative))
        return {} if found is None else {_decode(relative): found}

    def _candidate(self, full: bytes, path: str) -> os.stat_result | None:
        """The state of a file that is a document by its kind and name."""
        if path.endswith(SIDECAR) and self._config.sidecars:
            return None
        if not any(matches(path, pattern) for pattern in self._config.include):
            return None
        if any(matches(path, pattern) for pattern in self._config.exclude):
            return None
        try:
            state = os.lstat(full)
            if modes.S_ISLNK(state.st_mode):
                target = os.stat(full)
                return target if modes.S_ISREG(target.st_mode) else None
        except OSError:
            return None
        return state if modes.S_ISREG(state.st_mode) else None

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
        except FileNotFoundError as error:
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
        if not real.removesuffix(b" (deleted)").startswith(os.path.realpath(self._root) + b"/"):
            os.close(descriptor)
            raise DocumentRejected(
                Reason.OUTSIDE,
                "the link leads out of the source's folder",
                why="only what lies inside it is taken in",
                fix="put the file itself there, or add its folder as a source",
            )
        return descriptor


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}:{state.st_ino}"


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


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


async def listed(folder: Folder, under: Iterable[str] | None = None) -> list[Entry]:
    """`list` off the event loop: a share may be slow."""
    return await asyncio.to_thread(folder.list, under)
