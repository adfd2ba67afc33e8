"""Replacing documents: all of a batch at once, and one by one only if one of them cannot be held."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import psycopg

from redoubt.model import Generation, Vectors
from redoubt.store.pgvector.halfvec import copied
from redoubt.store.pgvector.statements import statement
from redoubt.store.protocol import Report, Transaction, Write

_REFUSED = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.UndefinedObject, UnicodeEncodeError)
_PASSAGE = ("int4", "uuid", "int4", "int4", "text", "text[]", "text", "int4", "int4", "int4", "text")


async def replace(tx: Transaction, generation: Generation, batch: Sequence[Write]) -> Report:
    """Write what can be written; of a document that is in the batch twice, the last counts."""
    good: dict[UUID, Write] = {}
    failed: dict[UUID, str] = {}
    for item in batch:
        id_ = item.document.document_id
        good.pop(id_, None)
        failed.pop(id_, None)
        if problem := _problem(item, generation.dimensions):
            failed[id_] = problem
        else:
            good[id_] = item
    try:
        async with tx.transaction():
            await _replace(tx, generation, list(good.values()))
    except _REFUSED as error:
        if len(good) == 1:
            return Report((), failed | dict.fromkeys(good, _reason(error)))
        done: list[UUID] = []
        for id_ in sorted(good):
            report = await replace(tx, generation, [good[id_]])
            done += report.done
            failed |= report.failed
        return Report(tuple(done), failed)
    return Report(tuple(good), failed)


async def _replace(tx: Transaction, generation: Generation, batch: Sequence[Write]) -> None:
    if not batch:
        return
    documents = [item.document.document_id for item in batch]
    full = [item for item in batch if item.chunks]
    empty = [item.document.document_id for item in batch if not item.chunks]

    async def run(name: str, values: dict[str, Any]) -> None:
        await tx.execute(statement("write.sql", name, generation.id), values)

    async with tx.pipeline():
        await run("lock", {"documents": documents})
        if full:
            await run(
                "claim",
                {
                    "documents": [item.document.document_id for item in full],
                    "versions": [item.document.version for item in full],
                    "acls": [item.document.acl_id for item in full],
                    "chunks": [len(item.chunks) for item in full],
                },
            )
        if empty:
            await run("remove", {"documents": empty})
        await run("retract", {"documents": documents})
    if full:
        await _place(tx, generation, full)


async def _place(tx: Transaction, generation: Generation, batch: Sequence[Write]) -> None:
    pairs = [(item.document, chunk) for item in batch for chunk in item.chunks]
    found = await tx.execute(statement("write.sql", "number", generation.id), {"count": len(pairs)})
    numbers = [row[0] for row in await found.fetchall()]
    async with tx.cursor() as cursor:
        async with cursor.copy(statement("write.sql", "copy_chunks", generation.id)) as copy:
            copy.set_types(("int4", "uuid", "int4"))
            for no, (document, _) in zip(numbers, pairs, strict=True):
                await copy.write_row((no, document.document_id, document.acl_id))
        async with cursor.copy(statement("write.sql", "copy_passages", generation.id)) as copy:
            copy.set_types(_PASSAGE)
            for no, (document, chunk) in zip(numbers, pairs, strict=True):
                await copy.write_row(
                    (
                        no, chunk.id, document.version, chunk.ordinal, document.title, list(chunk.heading), chunk.text,
                        chunk.span.start, chunk.span.end, chunk.page, document.config,
                    )
                )  # fmt: skip
        async with cursor.copy(statement("write.sql", "copy_vectors", generation.id)) as copy:
            await copy.write(copied(numbers, np.concatenate([_normal(item) for item in batch])))
    await tx.execute(
        statement("write.sql", "analyse", generation.id),
        {"nos": numbers, "acls": [document.acl_id for document, _ in pairs]},
    )


def _normal(item: Write) -> Vectors:
    normal: Vectors = item.vectors / np.linalg.norm(item.vectors, axis=1, keepdims=True)
    return normal


def _problem(item: Write, dimensions: int) -> str:
    if not item.chunks:
        return ""
    if item.vectors.shape != (len(item.chunks), dimensions):
        return f"vectors of shape {item.vectors.shape}, expected {(len(item.chunks), dimensions)}"
    if not np.isfinite(item.vectors).all():
        return "a vector holds NaN or infinity"
    if not np.linalg.norm(item.vectors, axis=1).all():
        return "a vector is zero, which has no direction"
    return ""


def _reason(error: Exception) -> str:
    """Without the driver's words: they may quote the text."""
    if isinstance(error, psycopg.errors.UndefinedObject):
        return "its text-search configuration is unknown to Postgres"
    if isinstance(error, psycopg.errors.ProgramLimitExceeded):
        return "a passage has more text than Postgres can analyse"
    return f"its text cannot be stored in Postgres ({type(error).__name__})"
