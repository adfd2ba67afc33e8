"""The process that parses: warm, and forking one parser and one guard for each document.

    python -m redoubt.ingest.parse.warden SOCKET_FD PARENT_PID MODULE:FUNCTION

A document's parser is a process of its own, so that what it breaks or learns dies with it. Nothing but the
parsers' own code runs in the warden before a fork, so that a fork takes a few milliseconds.

    worker ── request, three descriptors ──▸ warden ─fork▸ guard ─fork▸ parser

The guard waits for the parser, ends it when its time is over or the worker has gone, and tells the outcome.
Each of them dies with the one before it (PR_SET_PDEATHSIG). Only this module's parent reads what comes back.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument

READY = b"ready"
MAX_REQUEST = 65_536  # bytes
MEMORY_EXIT = 77  # a parser that could not even say that it had no memory left

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_LIBC = ctypes.CDLL(None, use_errno=True)

Parser = Callable[..., ParsedDocument]


def main(descriptor: int, parent: int, parser: str) -> None:
    """Fork for each request until the worker closes its end."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the guards
    module, _, function = parser.partition(":")
    parse: Parser = getattr(importlib.import_module(module), function)
    gc.collect()
    gc.freeze()  # what is loaded stays shared between the forks
    warden = os.getpid()
    with socket.socket(fileno=descriptor) as control:
        control.send(READY)
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST, 3)
            if not message:
                return
            if os.fork() == 0:
                with suppress(BaseException):
                    control.close()
                    _die_with(warden)
                    _guard(json.loads(message), descriptors, parse)
                os._exit(0)
            for number in descriptors:
                os.close(number)


def _guard(request: dict[str, Any], descriptors: list[int], parse: Parser) -> None:
    """Fork the parser, wait for it, and tell how it ended on the first of the descriptors."""
    line, source, result = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    guard = os.getpid()
    alive, held = os.pipe()  # the parser holds the other end for as long as it lives
    pid = os.fork()
    if pid == 0:
        code = MEMORY_EXIT
        with suppress(BaseException):
            os.close(alive)
            os.close(line)
            _die_with(guard)
            code = _parse(request, source, result, parse)
        os._exit(code)
    os.close(held)
    deadline = time.monotonic() + request["seconds"]
    poll = select.poll()
    poll.register(alive, select.POLLIN)
    poll.register(line, select.POLLIN)
    events = dict(poll.poll(max(0, deadline - time.monotonic()) * 1000))
    ended = alive in events
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    if line in events:
        return  # nobody waits any more
    outcome = _outcome(status, usage.ru_maxrss * 1024, request["memory"]) if ended else {"outcome": "timeout"}
    os.write(line, json.dumps(outcome).encode())


def _outcome(status: int, peak: int, allowed: int) -> dict[str, str]:
    """How a parser ended, from its wait status and its peak memory in bytes."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return {"outcome": "done"}
    if code == -signal.SIGXCPU:
        return {"outcome": "timeout"}
    # Native code that gets no memory ends by a signal of any kind; the kernel, when it has none left, kills.
    if code in {MEMORY_EXIT, -signal.SIGKILL} or (code < 0 and 2 * peak > allowed):
        return {"outcome": "memory"}
    return {"outcome": "crash", "how": signal.Signals(-code).name if code < 0 else f"exit code {code}"}


def _parse(request: dict[str, Any], source: int, result: int, parse: Parser) -> int:
    """Parse under the limits, and leave the answer as JSON in `result`; returns the exit code."""
    _confine(request)
    with open(source, "rb") as file:
        data = file.read()
    try:
        document = parse(data, request["name"], limits=Limits(**request["limits"]))
        answer: dict[str, Any] = {
            "text": document.text,
            "title": document.title,
            "sections": [[s.span.start, s.span.end, s.heading, s.page, s.kind] for s in document.sections],
            "as_of": document.as_of.isoformat() if document.as_of else None,
            "language": document.language,
        }
    except DocumentRejected as error:
        answer = {"rejected": [error.reason, error.what, error.why, error.fix]}
    except MemoryError:
        return MEMORY_EXIT
    except Exception as error:
        # Its words may quote the document: only its type leaves this process.
        answer = {"failed": type(error).__name__}
    with open(result, "w", encoding="utf-8", errors="replace") as file:
        json.dump(answer, file, ensure_ascii=False)
    return 0


def _confine(request: dict[str, Any]) -> None:
    """Limits that the parser cannot lift again, and no way to write but into its result."""
    seconds = int(request["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["result_bytes"], request["result_bytes"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what a native parser prints may quote the document
        os.dup2(null, number)
    os.close(null)


def _die_with(parent: int) -> None:
    """Be killed when the parent dies, also if it died just now."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
