"""Every request to `/v1` leaves one row in the audit trail, written before any of its answer leaves.

It wraps the whole application, so that no route, error or refusal can forget it: the row is written when the
response is about to start, and if it cannot be written the response is a 503 instead. A stream's row is written
before its first chunk, so a client that hangs up half-way is recorded with what was released to it; one that hangs
up before anything was released is recorded as cancelled, and its work stops.
"""

import asyncio
import re
import traceback
from contextlib import suppress

import psycopg
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redoubt import log
from redoubt.errors import RedoubtError, Unavailable
from redoubt.gateway import reply
from redoubt.gateway.deadline import within
from redoubt.gateway.exchange import Exchange, route_of
from redoubt.gateway.limits import ClientGone, read_body
from redoubt.metrics import GatewayMetrics
from redoubt.settings import GatewaySettings
from redoubt.store.catalog.audit import Outcome, Record, append
from redoubt.store.catalog.connect import Pool, connection

CANCELLED_STATUS = 499  # nobody received it; nginx's number for a client that went away
_HOPELESS_S = 1.0  # the catalogue was just found down: one short try is enough
_log = log.get(__name__)


class Audited:
    """The outermost layer: authenticates, bounds the body, runs the application, audits the outcome."""

    def __init__(self, app: ASGIApp, *, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything outside `/v1` passes unaudited."""
        if scope["type"] != "http" or not re.match(r"/v1(/|$)", scope["path"]):
            await self._app(scope, receive, send)
            return
        exchange = Exchange(Record(route=route_of(scope["path"])), self._metrics)
        scope.setdefault("state", {})["exchange"] = exchange
        gate = _Gate(exchange, send, scope["app"].state.services.pool, self._settings.catalog_timeout_s)
        gone = asyncio.Event()
        work = asyncio.create_task(self._answer(scope, receive, gate, gone))
        watch = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await gate.undecided()
                work.cancel()
            with suppress(asyncio.CancelledError, ClientGone):
                await work
        finally:
            work.cancel()
            watch.cancel()
            with suppress(asyncio.CancelledError, ClientGone):
                await work
            await self._finish(exchange, gate, cancelled=gone.is_set() and not gate.finished)

    async def _answer(self, scope: Scope, receive: Receive, gate: "_Gate", gone: asyncio.Event) -> None:
        exchange: Exchange = scope["state"]["exchange"]
        listening: asyncio.Task[None] | None = None
        try:
            with exchange.stage("auth"):
                shown = next((v for n, v in scope["headers"] if n == b"authorization"), None)
                ring = scope["app"].state.services.keys
                exchange.principal = await ring.principal(None if shown is None else shown.decode("latin-1"))
                exchange.record.key_id = exchange.principal.id
            body = await read_body(
                scope, receive, max_bytes=self._settings.max_body_bytes, timeout_s=self._settings.body_timeout_s
            )
            listening = asyncio.create_task(_until_gone(receive, gone))
            await self._app(scope, _replay(body, gone), gate.send)
        except ClientGone:
            gone.set()
            raise
        except RedoubtError as error:
            await self._fail(exchange, gate, error)
        except Exception as error:
            # Only types and places: an exception's text may quote a document or a question.
            where = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)[-6:]]
            request_id = str(exchange.record.request_id)
            _log.error("unhandled", kind=type(error).__name__, where=where, request_id=request_id)
            await self._fail(exchange, gate, RedoubtError("the gateway failed", why="a defect; the log has the place"))
        finally:
            if listening is not None:
                listening.cancel()

    @staticmethod
    async def _fail(exchange: Exchange, gate: "_Gate", error: RedoubtError) -> None:
        if gate.started:
            return  # the response is on its way and cannot be taken back; the connection ends short
        exchange.failed(error)
        response = reply.error(error)
        await response({"type": "http"}, _nothing, gate.send)

    async def _finish(self, exchange: Exchange, gate: "_Gate", *, cancelled: bool) -> None:
        record, status = exchange.record, gate.status
        outcome = gate.outcome
        if cancelled:
            outcome, status = "cancelled", status if gate.started else CANCELLED_STATUS
        if not gate.started:  # nothing was released, to a client that went away or by a gateway that is stopped
            record.documents.clear()
            with suppress(Unavailable, psycopg.Error):
                await gate.write(outcome, status)
        self._metrics.requests.labels(outcome).inc()
        stream = "true" if exchange.stream else "false"
        self._metrics.request_duration.labels(record.route, stream).observe(exchange.elapsed_s)
        _log.info(
            "request",
            request_id=str(record.request_id),
            route=record.route,
            status=status,
            outcome=outcome,
            reason=record.reason,
            duration_ms=round(exchange.elapsed_s * 1000, 1),
        )


class _Gate:
    """Lets nothing of a response out before its row is written."""

    def __init__(self, exchange: Exchange, send: Send, pool: Pool, timeout_s: float) -> None:
        self._exchange = exchange
        self._send = send
        self._pool = pool
        self._timeout_s = timeout_s
        self._denied = False
        self._written = asyncio.Event()
        self._deciding = False
        self.started = False
        self.finished = False
        self.status = 500
        self.outcome: Outcome = "error"

    async def undecided(self) -> None:
        """Wait while the row is being written, so that no request gets two."""
        if self._deciding:
            await self._written.wait()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif not self._denied:
            await self._send(message)
            self.finished = not message.get("more_body", False)

    async def _begin(self, message: Message) -> None:
        self.status = message["status"]
        record = self._exchange.record
        self.outcome = record.outcome if record.outcome and self.status < 400 else outcome_of(self.status)
        if self.status >= 400:
            record.documents.clear()
        self._deciding = True
        try:
            with self._exchange.stage("audit"):
                await self.write(self.outcome, self.status)
        except (Unavailable, psycopg.Error) as error:
            _log.error("audit_impossible", kind=type(error).__name__, request_id=str(record.request_id))
            self._denied, self.status, self.outcome = True, 503, "error"
            response = reply.error(
                Unavailable("the request could not be audited", why="no answer leaves without its audit row")
            )
            await response({"type": "http"}, _nothing, self._raw)
            return
        finally:
            self._written.set()
        await self._raw(message)

    async def _raw(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            MutableHeaders(scope=message)["X-Request-Id"] = str(self._exchange.record.request_id)
        await self._send(message)
        if message["type"] == "http.response.body":
            self.finished = not message.get("more_body", False)

    async def write(self, outcome: Outcome, status: int) -> None:
        record, elapsed_s = self._exchange.record, self._exchange.elapsed_s

        async def insert() -> None:
            async with connection(self._pool) as taken:
                await append(taken, record, outcome, status, elapsed_s * 1000)

        await within(_HOPELESS_S if status == 503 else self._timeout_s, insert())


def outcome_of(status: int) -> Outcome:
    """The outcome of a request that no handler judged."""
    if status >= 500:
        return "error"
    return "rejected" if status >= 400 else "answered"


def _replay(body: bytes, gone: asyncio.Event) -> Receive:
    """A body already read, then silence until the client goes away."""
    pending = [body]

    async def receive() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive


async def _until_gone(receive: Receive, gone: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
