"""Who asks: from the request's bearer key to a principal.

A key that was found valid is believed for a while, so that not every request asks Postgres. What is believed
is forgotten when Postgres says that the key changed (NOTIFY `redoubt_key`). Silence proves nothing by itself,
so the listening connection is asked for a sign of life twice a second: without one in the last second nothing is
believed and each request asks Postgres. A revoked key therefore ends within a second, whatever breaks.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from redoubt import log
from redoubt.errors import AuthError, CatalogDown
from redoubt.gateway.deadline import within
from redoubt.model import Principal
from redoubt.store.catalog import keys
from redoubt.store.catalog.connect import Pool, connection, single

BELIEF_S = 1.0  # a sign of life older than this ends all belief
HEARTBEAT_S = 0.5
RETRY_S = 0.5
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    until: float  # monotonic


class KeyRing:
    """Principals by key, as fresh as the promise needs them."""

    def __init__(
        self, connections: Pool, dsn: str, *, cache_s: float, timeout_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._pool = connections
        self._dsn = dsn
        self._cache_s = cache_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._epoch = 0  # grows with every change heard of, so that a lookup begun before it is not remembered
        self._alive_at = float("-inf")  # when Postgres was last known to have no news

    @property
    def believing(self) -> bool:
        """Whether Postgres would have told of a change."""
        return self._clock() - self._alive_at < BELIEF_S

    async def principal(self, authorization: str | None) -> Principal:
        """Whose key this is; `AuthError` reads the same for none, unknown, expired and revoked."""
        scheme, _, secret = (authorization or "").partition(" ")
        hashed = keys.digest(secret.strip()) if scheme.lower() == "bearer" else None
        if hashed is None:
            raise refused()
        known = self._known.get(hashed)
        if known is not None:
            if self.believing and self._clock() < known.until:
                return known.principal
            del self._known[hashed]
        epoch = self._epoch
        found = await within(self._timeout_s, self._lookup(hashed))
        if found is None:
            raise refused()
        principal, remaining_s = found
        if self.believing and epoch == self._epoch:
            lifetime = self._cache_s if remaining_s is None else min(self._cache_s, remaining_s)
            self._known[hashed] = _Known(principal, self._clock() + lifetime)
        return principal

    async def _lookup(self, hashed: bytes) -> tuple[Principal, float | None] | None:
        async with connection(self._pool) as taken:
            return await keys.lookup(taken, hashed)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear of changed keys for as long as this is entered."""
        task = asyncio.create_task(self._listen(), name="keys")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        while True:
            try:
                async with single(self._dsn, service="gateway-keys") as listener:
                    await listener.execute("LISTEN redoubt_key")
                    self._forget()
                    while True:
                        await self._heartbeat(listener)
            except (CatalogDown, psycopg.Error, TimeoutError, OSError) as error:
                _log.warning("key_changes_unheard", kind=type(error).__name__)
            finally:
                self._alive_at = float("-inf")
                self._forget()
            await asyncio.sleep(RETRY_S)

    async def _heartbeat(self, listener: AsyncConnection[object]) -> None:
        asked_at = self._clock()
        async with asyncio.timeout(BELIEF_S):
            await listener.execute("SELECT 1")
        self._alive_at = asked_at
        async for notification in listener.notifies(timeout=HEARTBEAT_S):
            self._forget(notification.payload)

    def _forget(self, key_id: str | None = None) -> None:
        """Believe nothing any more of one key, or of all."""
        self._epoch += 1
        if key_id is None:
            self._known.clear()
            return
        gone = _uuid(key_id)
        self._known = {hashed: known for hashed, known in self._known.items() if known.principal.id != gone}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def refused() -> AuthError:
    """One error for every reason: a caller learns nothing about keys that it does not hold."""
    return AuthError(
        "no valid API key was given",
        why="the key is missing, unknown, expired or revoked",
        fix="send `Authorization: Bearer rdt_…`; an operator makes keys with `redoubt key create`",
    )
