"""Whether this process lives, and whether it could answer a question now."""

import asyncio
from time import monotonic

import psycopg

from redoubt.errors import RedoubtError
from redoubt.gateway.deadline import within
from redoubt.gateway.retrieve import Embeds
from redoubt.store.catalog.connect import Pool, connection

_KEPT_S = 1.0  # an answer is given again for this long: probes shall not become load
_PATIENCE_S = 3.0


class Health:
    """Asks the catalogue and the embedder the way a question would."""

    def __init__(self, pool: Pool, embedder: Embeds) -> None:
        self._pool = pool
        self._embedder = embedder
        self._lock = asyncio.Lock()
        self._known: dict[str, str] = {}
        self._at = float("-inf")

    async def parts(self) -> dict[str, str]:
        """Each part with "up", or what is wrong with it; no addresses, since nobody need show a key for this."""
        async with self._lock:
            if monotonic() - self._at >= _KEPT_S:
                catalog, embedder = await asyncio.gather(self._catalog(), self._embed())
                self._known = {"catalog": catalog, "embedder": embedder}
                self._at = monotonic()
            return self._known

    async def _catalog(self) -> str:
        async def ask() -> None:
            async with connection(self._pool) as taken:
                await taken.execute("SELECT FROM index LIMIT 1")

        try:
            await within(_PATIENCE_S, ask())
        except RedoubtError as error:
            return f"down: {error.what}"
        except psycopg.Error as error:
            return f"down: {type(error).__name__}"
        return "up"

    async def _embed(self) -> str:
        try:
            await asyncio.wait_for(self._embedder.embed(["ready"]), _PATIENCE_S)
        except TimeoutError:
            return "down: it does not answer in time"
        except RedoubtError as error:
            return f"down: {error.what}"
        return "up"
