"""The SQL files of this backend: statements under `-- name:` headings, each about one generation's schema."""

import re
from functools import cache
from importlib.resources import files
from uuid import UUID

_HEADING = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def schema(generation_id: UUID) -> str:
    """The schema that holds a generation; hexadecimal, so that it needs no quoting."""
    return f"g_{generation_id.hex}"


@cache
def _text(file: str) -> str:
    return (files("redoubt.store.pgvector") / file).read_text("utf-8")


@cache
def _named(file: str) -> dict[str, str]:
    parts = _HEADING.split(_text(file))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def statement(file: str, name: str, generation_id: UUID) -> bytes:
    """One named statement."""
    return _named(file)[name].replace("{schema}", schema(generation_id)).encode()


def script(file: str, generation_id: UUID, *, dimensions: int = 0) -> bytes:
    """A whole file of statements."""
    text = _text(file).replace("{schema}", schema(generation_id))
    return text.replace("{dimensions}", str(dimensions)).encode()
