"""A source at work, and what its documents pass through."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from redoubt.ingest.chunk import Chunker
from redoubt.ingest.embed import Batcher
from redoubt.ingest.parse.sandbox import Sandbox
from redoubt.ingest.sources.folder import Folder, FolderConfig
from redoubt.ingest.sources.protocol import Source
from redoubt.metrics import IngestMetrics
from redoubt.settings import IngestSettings
from redoubt.store.catalog.connect import Pool
from redoubt.store.catalog.sources import SourceRow
from redoubt.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Feed:
    """A source: its configuration and the index that it feeds."""

    id: UUID
    name: str
    index: str
    config: FolderConfig
    rules: str  # digest of the configuration: part of every document's stamp
    source: Source
    created_at: datetime


def feed_of(row: SourceRow, settings: IngestSettings) -> Feed:
    """The source as the catalogue describes it; raises pydantic's `ValidationError` where it does not."""
    config = FolderConfig.model_validate(row.config)
    rules = hashlib.sha256(json.dumps(row.config, sort_keys=True).encode()).hexdigest()[:16]
    return Feed(row.id, row.name, row.index, config, rules, Folder(config, settings.max_bytes), row.created_at)


class Room:
    """A bound on the text that waits to be embedded and written; one document larger than all of it has it alone."""

    def __init__(self, size: int) -> None:
        self._size = size  # characters
        self._taken = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Wait until there is room for `size` characters, and hold it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            async with self._changed:
                self._taken -= size
                self._changed.notify_all()


@dataclass(slots=True)
class Tools:
    """What a document passes through."""

    pool: Pool
    store: Store
    sandbox: Sandbox
    tokenizer_file: Path
    batcher: Batcher
    metrics: IngestMetrics
    digest: str  # of the embedder that runs
    reading: tuple[asyncio.Semaphore, asyncio.Semaphore]  # documents read and parsed at once: backfill, urgent ones
    room: Room
    _chunkers: dict[int, Chunker] = field(default_factory=dict)

    def chunker(self, max_tokens: int) -> Chunker:
        """Each generation is cut to the budget that it was made with."""
        if max_tokens not in self._chunkers:
            self._chunkers[max_tokens] = Chunker(self.tokenizer_file, max_tokens)
        return self._chunkers[max_tokens]
