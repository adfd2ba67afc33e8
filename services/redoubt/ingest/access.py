"""Who may read a document: the first pattern that matches, or the sidecar where allowed. Doubt means nobody."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from redoubt.ingest.parse.dates import instant
from redoubt.ingest.sources.folder import AclRule, FolderConfig, is_group, matches

_MAX_TITLE = 300  # characters


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a sidecar says; `problem` is set when it cannot be used, and then nobody may read the document."""

    groups: tuple[str, ...] | None = None  # None: it does not say, the patterns decide
    as_of: datetime | None = None
    title: str | None = None
    language: str | None = None
    problem: str = ""


NO_SIDECAR = Sidecar()


def judge(path: str, config: FolderConfig, sidecar: Sidecar) -> tuple[str, ...] | None:
    """The groups that may read, sorted and distinct; None: nobody."""
    if sidecar.problem:
        return None
    if sidecar.groups is not None:
        return _groups(sidecar.groups)
    return next((_groups(rule.groups) for rule in config.acl if matches(path, rule.pattern)), None)


def language(path: str, config: FolderConfig, sidecar: Sidecar) -> str | None:
    """The language that the sidecar or a pattern names; None: to be detected."""
    if sidecar.language:
        return sidecar.language
    return next((rule.config for rule in config.language if matches(path, rule.pattern)), None)


def form(path: str, config: FolderConfig, sidecar: Sidecar) -> str:
    """What source and sidecar say about how a document is written down: another value means writing it anew."""
    said = (sidecar.title, language(path, config, sidecar), sidecar.as_of and sidecar.as_of.isoformat())
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16] if any(said) else ""


def read_sidecar(data: bytes | None) -> Sidecar:
    """Parse a sidecar; every defect is a problem, never a default."""
    if data is None:
        return NO_SIDECAR
    try:
        loaded = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return Sidecar(problem="it is not a TOML file")
    if not data.strip():
        return Sidecar(problem="it is empty")  # or about to be written: patterns may be wider than what it will say
    if unknown := set(loaded) - {"groups", "as_of", "title", "language"}:
        return Sidecar(problem=f"it has {len(unknown)} unknown keys; known are groups, as_of, title and language")
    groups = loaded.get("groups")
    if groups is not None and not _valid(groups):
        return Sidecar(problem="its groups are not a list of names")
    as_of = instant(loaded.get("as_of"))
    if "as_of" in loaded and as_of is None:
        return Sidecar(problem="its as_of is no date")
    for key in ("title", "language"):
        value = loaded.get(key, "-")
        if not (isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= _MAX_TITLE):
            return Sidecar(problem=f"its {key} is no line of text")
    return Sidecar(tuple(groups) if groups is not None else None, as_of, loaded.get("title"), loaded.get("language"))


def everyone_in(groups: Sequence[str]) -> tuple[AclRule, ...]:
    """The rule of a folder given on the command line: all of it, for these groups."""
    return (AclRule(pattern="**", groups=tuple(groups)),)


def _valid(groups: object) -> bool:
    return isinstance(groups, list) and all(is_group(g) for g in groups)


def _groups(groups: Sequence[str]) -> tuple[str, ...] | None:
    return tuple(sorted(set(groups))) or None
