"""API keys: named, with groups, expiring, revocable; only the SHA-256 of a secret is ever stored.

The secret is 256 random bits, so there is nothing to guess and no slow hash is needed: a lookup by its hash
tells an attacker nothing about any other secret.
"""
# ruff: noqa: S608 (the statements are composed of this module's own constants)

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from redoubt.errors import Conflict, InputError, NotFound
from redoubt.model import EVERYONE, Principal

PREFIX = "rdt_"
_SECRET = re.compile(r"rdt_[a-z2-7]{52}")  # base32 without padding: a double click selects the whole of it
_NAME = re.compile(r"[^\W_][\w.@:/+-]{0,99}")
_GROUP = re.compile(r"[^\W_][\w.@:/+-]{0,127}")

_COLUMNS = "id, name, groups, created_at, expires_at, revoked_at"
_LOOKUP = """
SELECT id, name, groups, hash, extract(epoch FROM expires_at - now())::float8 AS remaining_s
FROM api_key WHERE hash = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it may be shown: everything but the secret and its hash."""

    id: UUID
    name: str
    groups: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def digest(secret: str) -> bytes | None:
    """The SHA-256 that a secret is found by; None: it has not the form of a key."""
    return hashlib.sha256(secret.encode("ascii")).digest() if _SECRET.fullmatch(secret) else None


async def lookup(connection: AsyncConnection[Any], hashed: bytes) -> tuple[Principal, float | None] | None:
    """Whom a valid key belongs to, and the seconds until it expires (None: never); None: no valid key."""
    row = await (await connection.execute(_LOOKUP, (hashed,))).fetchone()
    if row is None or not hmac.compare_digest(bytes(row[3]), hashed):
        return None
    return Principal(id=row[0], name=row[1], groups=frozenset(row[2])), row[4]


async def create(
    connection: AsyncConnection[Any], name: str, groups: Sequence[str], lifetime: timedelta | None
) -> tuple[Key, str]:
    """Make a key; the secret is returned this once and can be had from nowhere afterwards."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a key",
            why="a name is up to 100 letters, digits and . _ - @ : / +, beginning with a letter or digit",
        )
    for group in groups:
        if not _GROUP.fullmatch(group):
            raise InputError(
                f"{group!r} cannot name a group",
                why="a group is up to 128 letters, digits and . _ - @ : / +, beginning with a letter or digit",
            )
    secret = PREFIX + base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    async with connection.cursor(row_factory=class_row(Key)) as cursor:
        try:
            await cursor.execute(
                "INSERT INTO api_key (name, hash, groups, expires_at) "
                f"VALUES (%s, %s, %s, now() + %s) RETURNING {_COLUMNS}",
                (name, digest(secret), sorted({*groups, EVERYONE}), lifetime),
            )
        except psycopg.errors.UniqueViolation as error:
            raise Conflict(
                f"there is a key named {name!r} already",
                fix=f"revoke it first (`redoubt key revoke {name}`), or choose another name",
            ) from error
        key = await cursor.fetchone()
    assert key is not None
    return key, secret


async def listing(connection: AsyncConnection[Any], *, revoked: bool = False) -> list[Key]:
    """All keys by name; with `revoked` also those that were taken back."""
    async with connection.cursor(row_factory=class_row(Key)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM api_key WHERE %s OR revoked_at IS NULL ORDER BY name, created_at", (revoked,)
        )
        return await cursor.fetchall()


async def revoke(connection: AsyncConnection[Any], name: str) -> Key:
    """Take a key back; every gateway has forgotten it within a second."""
    async with connection.cursor(row_factory=class_row(Key)) as cursor:
        await cursor.execute(
            f"UPDATE api_key SET revoked_at = now() WHERE name = %s AND revoked_at IS NULL RETURNING {_COLUMNS}",
            (name,),
        )
        key = await cursor.fetchone()
    if key is None:
        raise NotFound(f"there is no key named {name!r}", fix="see `redoubt key list`")
    return key
