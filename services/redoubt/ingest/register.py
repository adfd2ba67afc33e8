"""Folders as sources: what is typed on the command line becomes a configuration that the worker reads."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from pydantic import ValidationError

from redoubt.errors import InputError
from redoubt.ingest.access import everyone_in
from redoubt.ingest.sources.folder import FolderConfig
from redoubt.model import EVERYONE
from redoubt.settings import explain
from redoubt.store.catalog import indexes, sources


@dataclass(frozen=True, slots=True)
class Registered:
    """A source as it was added; `groups` empty: patterns of a file decide."""

    source: str
    folder: Path
    index: str
    groups: tuple[str, ...]
    changed: bool  # False: it stood like that already


def describe(folder: Path, *, name: str = "", groups: Sequence[str] = (), file: Path | None = None) -> FolderConfig:
    """The configuration of a folder, from a source file or for whole groups; raises `InputError` for what is amiss."""
    if file is not None and groups:
        raise InputError(
            "a source file and groups were both given",
            why="the file's patterns say who may read",
            fix="leave out --group, or the file",
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", fix="name a folder that exists and can be read")
    values: dict[str, Any] = _load(file) if file else {"acl": everyone_in(groups or (EVERYONE,))}
    try:
        config = FolderConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{file or 'the source'} is not as a source is described", why=explain(error)) from error
    return config.model_copy(update={"root": folder.resolve(), "name": name or config.name or _name(folder)})


async def add(
    tx: AsyncConnection[Any], config: FolderConfig, index: str, objective_seconds: float = 60.0
) -> Registered:
    """Add the source, or give it this configuration; the site's default index is made if it is missing."""
    assert config.name is not None and config.root is not None
    await indexes.create(tx, index, *indexes.DEFAULT_TUNING, missing_ok=True)
    changed = await sources.add(tx, config.name, config.model_dump(mode="json"), index, objective_seconds)
    whole = config.acl[0].groups if [rule.pattern for rule in config.acl] == ["**"] else ()
    return Registered(config.name, config.root, index, whole, changed)


def _load(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a TOML file", why=str(error)) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read", why=error.strerror or type(error).__name__) from error


def _name(folder: Path) -> str:
    """The folder's name as a source's: other characters become dashes."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in folder.resolve().name)
    return kept.strip("-._")[:63] or "folder"
