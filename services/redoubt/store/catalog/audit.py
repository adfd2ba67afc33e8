"""The audit trail: one row a request, never changed; the question itself is not in it, only its hash."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

Outcome = Literal["answered", "refused", "error", "cancelled", "rejected"]

_INSERT = """
INSERT INTO audit (request_id, key_id, route, index, model, outcome, reason, status, question_hash, documents,
                   duration_ms)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(slots=True)
class Record:
    """What is known of a request so far; whoever learns more of it fills in more."""

    route: str = "unknown"
    request_id: UUID = field(default_factory=uuid4)
    key_id: UUID | None = None
    index: str | None = None
    model: str | None = None
    outcome: Outcome | None = None  # None: it follows from the status
    reason: str | None = None
    question_hash: bytes | None = None
    documents: set[tuple[UUID, int]] = field(default_factory=set)  # (id, version) that the answer shows

    def asked(self, question: str) -> None:
        """Remember which question this was, without remembering the question."""
        self.question_hash = hashlib.sha256(question.encode("utf-8")).digest()

    def shown(self, documents: Iterable[tuple[UUID, int]]) -> None:
        """Remember whose text leaves with the answer."""
        self.documents.update(documents)


async def append(
    connection: AsyncConnection[Any], record: Record, outcome: Outcome, status: int, duration_ms: float
) -> None:
    """Write the request's row; it is durable when this returns outside a transaction."""
    await connection.execute(
        _INSERT,
        (
            record.request_id,
            record.key_id,
            record.route,
            record.index,
            record.model,
            outcome,
            record.reason,
            status,
            record.question_hash,
            Jsonb([[str(document), version] for document, version in sorted(record.documents)]),
            duration_ms,
        ),
    )
