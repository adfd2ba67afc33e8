"""Parsing at arm's length: what crashes, hangs or eats memory costs its own document and nothing else."""

import asyncio
import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from redoubt.errors import DocumentRejected
from redoubt.errors import Environment as EnvironmentLacks
from redoubt.ingest.parse.limits import Limits
from redoubt.ingest.parse.warden import MAX_REQUEST, READY
from redoubt.model import ParsedDocument, Reason, Section, Span
from redoubt.settings import IngestSettings

GRACE_S = 10.0  # beyond a parser's time, before its guard is taken for dead
START_S = 60.0  # for the warden to load the parsers
LARGE_BYTES = 1_000_000  # from here on, copying and decoding leave the event loop
RESULT_FACTOR = 8  # bytes of result a character of text, at most
RESULT_BASE = 64_000_000  # bytes for sections and headings
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")  # no secrets for parsers


class WardenGone(Exception):
    """The warden died, for no fault of this document: it is started anew, and asked again."""


class Sandbox:
    """`parse`, in a process of its own for each document; see `warden` for the other side.

    `parser`: what runs there, as "module:function" with the signature of `redoubt.ingest.parse.parse`.
    """

    def __init__(self, settings: IngestSettings, *, parser: str = "redoubt.ingest.parse:parse") -> None:
        self._settings = settings
        self._parser = parser
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None

    async def __aenter__(self) -> Self:
        await self._warden()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def parse(self, data: bytes, name: str) -> ParsedDocument:
        """What a document says. Raises `DocumentRejected` for all that is the document's doing.

        Cancelling it ends the parser.
        """
        async with self._slots:
            for _ in range(2):
                with suppress(WardenGone):
                    return await self._ask(await self._warden(), data, name)
        raise _rejected(Reason.PARSER_CRASH, "the parser's process was killed twice")

    async def _ask(self, control: socket.socket, data: bytes, name: str) -> ParsedDocument:
        request = json.dumps(
            {
                "name": name[-4096:],
                "limits": asdict(Limits.of(self._settings)),
                "seconds": self._settings.parse_timeout_s,
                "memory": self._settings.parse_memory_bytes,
                "result_bytes": RESULT_FACTOR * self._settings.max_text_chars + RESULT_BASE,
            }
        ).encode()
        assert len(request) <= MAX_REQUEST
        line, theirs = socket.socketpair()
        source = os.memfd_create("source")
        result = os.memfd_create("result")
        try:
            line.setblocking(False)
            await _off_loop(len(data), _fill, source, data)
            try:
                socket.send_fds(control, [request], [theirs.fileno(), source, result])
            except OSError as error:
                raise WardenGone from error
            finally:
                theirs.close()
            outcome = await self._outcome(line, control)
            if outcome["outcome"] == "done":
                document: ParsedDocument = await _off_loop(os.fstat(result).st_size, _read, result)
                return document
            raise self._verdict(outcome)
        finally:
            line.close()
            os.close(source)
            os.close(result)

    async def _outcome(self, line: socket.socket, control: socket.socket) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.parse_timeout_s + GRACE_S):
                told = await loop.sock_recv(line, 4096)
        except TimeoutError:
            return {"outcome": "timeout"}
        except ConnectionError:
            told = b""
        if told:
            return dict(json.loads(told))
        # The guard is dead. If the warden is too, its other guards may hold its socket for a moment more.
        for _ in range(50):
            if _closed(control):
                raise WardenGone
            await asyncio.sleep(0.02)
        return {"outcome": "crash", "how": "its guard was killed"}

    def _verdict(self, outcome: dict[str, str]) -> DocumentRejected:
        match outcome["outcome"]:
            case "timeout":
                limit = f"more than {self._settings.parse_timeout_s:g} s"
                return _rejected(Reason.PARSER_TIMEOUT, limit, "REDOUBT_INGEST_PARSE_TIMEOUT_S")
            case "memory":
                limit = f"more than {self._settings.parse_memory_bytes:,} bytes"
                return _rejected(Reason.PARSER_MEMORY, limit, "REDOUBT_INGEST_PARSE_MEMORY_BYTES")
            case _:
                return _rejected(Reason.PARSER_CRASH, outcome.get("how", ""))

    async def _warden(self) -> socket.socket:
        """The running warden's socket; starts one if there is none."""
        async with self._starting:
            if self._control is not None and not _closed(self._control):
                return self._control
            await self._stop()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                ours.setblocking(False)
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "redoubt.ingest.parse.warden",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    self._parser,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    # Threads of a numeric library would not survive the forks.
                    env={k: os.environ[k] for k in _ENVIRONMENT if k in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
                )
                theirs.close()
                self._control = ours
                async with asyncio.timeout(START_S):
                    ready = await asyncio.get_running_loop().sock_recv(ours, len(READY))
            except BaseException:
                theirs.close()
                await self._stop()
                ours.close()
                raise
            if ready != READY:
                await self._stop()
                raise EnvironmentLacks("the parsers cannot be loaded", why="their process ended at once; see its log")
            return ours

    async def _stop(self) -> None:
        """End the warden, and with it all that it forked."""
        control, process = self._control, self._process
        self._control = self._process = None
        if control is not None:
            control.close()
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _off_loop(size: int, function: Any, *arguments: Any) -> Any:
    """Call it, in a thread if `size` bytes would hold up the event loop."""
    return await asyncio.to_thread(function, *arguments) if size > LARGE_BYTES else function(*arguments)


def _fill(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)


def _read(descriptor: int) -> ParsedDocument:
    """Decode an answer, trusting none of it: whoever wrote it has read a stranger's file."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        with open(descriptor, "rb", closefd=False) as file:
            answer = json.load(file)
        if failed := answer.get("failed"):
            raise _rejected(Reason.PARSER_CRASH, str(failed)[:80])
        if rejected := answer.get("rejected"):
            reason, what, why, fix = map(str, rejected)
            raise DocumentRejected(Reason(reason), what, why=why, fix=fix)
        return _document(answer)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _rejected(Reason.PARSER_CRASH, "its answer makes no sense") from error


def _document(answer: dict[str, Any]) -> ParsedDocument:
    text, title, language = answer["text"], answer["title"], answer["language"]
    if not (isinstance(text, str) and isinstance(title, str) and isinstance(language, str | None)):
        raise TypeError
    sections: list[Section] = []
    at = 0
    for start, end, heading, page, kind in answer["sections"]:
        if not at <= start <= end <= len(text) or kind not in {"prose", "table", "code"}:
            raise ValueError
        if not (isinstance(page, int | None) and all(isinstance(part, str) for part in heading)):
            raise TypeError
        sections.append(Section(Span(start, end), tuple(heading), page, kind))
        at = end
    as_of = datetime.fromisoformat(answer["as_of"]) if answer["as_of"] else None
    return ParsedDocument(text, title, tuple(sections), as_of, language)


def _closed(control: socket.socket) -> bool:
    """Whether the other side is gone; nothing is ever waiting to be read here."""
    try:
        return not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _rejected(reason: Reason, why: str, setting: str = "") -> DocumentRejected:
    what = {
        Reason.PARSER_TIMEOUT: "reading the document takes too long",
        Reason.PARSER_MEMORY: "reading the document takes too much memory",
        Reason.PARSER_CRASH: "the parser broke down over the document",
    }[reason]
    fix = f"simplify or split the document, or raise {setting}" if setting else "save the document anew, or exclude it"
    return DocumentRejected(reason, what, why=why, fix=fix)
