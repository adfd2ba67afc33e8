"""What has to be done to make the catalogue agree with a source: a pure comparison of the two."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from redoubt.ingest.sources.protocol import Entry


@dataclass(frozen=True, slots=True)
class Known:
    """A document as the catalogue has it."""

    id: UUID
    path: str
    stamp: str  # file | sidecar | rules, as `stamp` makes it
    content_hash: bytes  # SHA-256
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Parked:
    """A change that waits or failed, by the stamp that it was seen with."""

    stamp: str
    failed: bool
    retry: bool  # it failed for a reason that may pass by itself


@dataclass(frozen=True, slots=True)
class Plan:
    """Disjoint by path; renames first, then deletions and judgements, then writes."""

    renames: tuple[tuple[Known, Entry], ...] = ()
    deletes: tuple[Known, ...] = ()
    judge: tuple[tuple[Known, Entry], ...] = ()  # the content is as it was, who may read it may not be
    writes: tuple[Entry, ...] = ()
    forget: tuple[str, ...] = ()  # parked paths that are gone


def stamp(entry: Entry, rules: str) -> str:
    """What is stored with a document: unequal parts tell content from access."""
    return f"{entry.stamp}|{entry.sidecar_stamp}|{rules}"


def plan(
    known: Iterable[Known],
    present: Sequence[Entry],
    parked: Mapping[str, Parked],
    rules: str,
    hash_of: Callable[[str], bytes | None],
    unseen: Sequence[str] = (),
) -> Plan:
    """Compare; `hash_of(path)` is asked only where a new path may be an old document under another name.

    `unseen`: of what lies at or below these paths it is not known whether it is there; it stays as it is.
    """
    by_path = {document.path: document for document in known}
    here = {entry.path: entry for entry in present}
    deletes = {path: document for path, document in by_path.items() if path not in here and not below(path, unseen)}
    judge: list[tuple[Known, Entry]] = []
    changed: dict[str, Entry] = {}
    new: list[Entry] = []
    for entry in present:
        document = by_path.get(entry.path)
        if document is None:
            new.append(entry)
        elif document.stamp == stamp(entry, rules):
            if entry.path in parked:  # it failed to change, and then changed back
                changed[entry.path] = entry
        elif document.stamp.split("|", 1)[0] == entry.stamp:
            judge.append((document, entry))
        else:
            changed[entry.path] = entry
    renames, taken = _renames(new, deletes, changed, by_path, hash_of)
    moved = {entry.path for _, entry in renames}
    writes = [entry for entry in [*changed.values(), *new] if entry.path not in moved]
    return Plan(
        renames=tuple(renames),
        deletes=tuple(document for document in deletes.values() if document.id not in taken),
        judge=tuple(judge),
        writes=tuple(entry for entry in writes if not _waits(parked.get(entry.path), stamp(entry, rules))),
        forget=tuple(path for path in parked if path not in here and path not in by_path and not below(path, unseen)),
    )


def below(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of these, or lies in one of them."""
    return any(path == top or path.startswith(top + "/") for top in tops)


def _renames(
    new: Sequence[Entry],
    deletes: Mapping[str, Known],
    changed: Mapping[str, Entry],
    by_path: Mapping[str, Known],
    hash_of: Callable[[str], bytes | None],
) -> tuple[list[tuple[Known, Entry]], set[UUID]]:
    """A new path with the content that left another one is that document, moved.

    In the order in which they can be carried out: where one document takes another's place, that one has left it.
    """
    leaving = [*deletes.values(), *(by_path[path] for path in changed)]
    by_size: dict[int, list[Known]] = {}
    for document in leaving:
        by_size.setdefault(document.size, []).append(document)
    renames: list[tuple[Known, Entry]] = []
    taken: set[UUID] = set()
    free = list(new)  # paths without a document, or that theirs has just left
    for entry in free:
        candidates = [document for document in by_size.get(entry.size, ()) if document.id not in taken]
        if not candidates or (digest := hash_of(entry.path)) is None:
            continue
        for document in candidates:
            if document.content_hash != digest:
                continue
            if document.path in changed and hash_of(document.path) == digest:
                continue  # still there with the same content: this is a copy
            renames.append((document, entry))
            taken.add(document.id)
            if document.path in changed:
                free.append(changed[document.path])
            break
    return renames, taken


def _waits(parked: Parked | None, now: str) -> bool:
    """A failed change is tried again when the file changes, or when its reason may have passed."""
    return parked is not None and parked.stamp == now and parked.failed and not parked.retry
