"""One result a command, two writers: a table for eyes, JSON for scripts. All nouns print through it.

    out = output.writer(json)
    out.note("reading …")                                   # for eyes; standard error under --json
    out.rows(rows, {"name": "source", "pending": "pending"})  # a table, or a JSON array of the whole rows
    out.record({"url": …}, {"url": "address"})              # two columns, or one JSON object

Standard output holds the result and nothing else; everything said on the way goes to standard error.
"""

import dataclasses
import json as jsonlib
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Protocol
from uuid import UUID

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from redoubt.errors import RedoubtError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Row = Mapping[str, Any]


class Writer(Protocol):
    """What a command says its result to."""

    json: bool

    def rows(self, rows: Iterable[Any], columns: Mapping[str, str], *, title: str = "", empty: str = "none") -> None:
        """Many of one kind: mappings or dataclasses; `columns` maps a field to its heading, for eyes only."""

    def record(self, record: Any, labels: Mapping[str, str] | None = None, *, title: str = "") -> None:
        """One thing; `labels` picks and names what eyes see, all of it by default."""

    def show(self, *renderables: RenderableType) -> None:
        """What only eyes want: prose, a picture. JSON leaves it out."""

    def note(self, text: str) -> None:
        """A remark on the way, on standard error; never part of the result."""


def writer(json: bool) -> Writer:
    """The writer that `--json` asks for."""
    return _Json() if json else _Eyes()


def console(*, stderr: bool = False) -> Console:
    """Colour and width on a terminal only; a pipe gets plain, unbroken lines."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty(), markup=False, emoji=False)


def plain(value: Any) -> Any:
    """A value as JSON carries it: times RFC 3339 in UTC, ids and paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        value = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    elif isinstance(value, Mapping):
        value = {str(name): plain(item) for name, item in value.items()}
    elif isinstance(value, list | tuple):
        value = [plain(item) for item in value]
    elif isinstance(value, set | frozenset):
        value = sorted(plain(item) for item in value)
    elif isinstance(value, Enum):
        value = value.value
    elif isinstance(value, UUID | Path):
        value = str(value)
    return value


def duration(seconds: float | None) -> str:
    """A length of time for eyes: `340 ms`, `12.4 s`, `3 min 20 s`, `5 h 02 min`, `3 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def failure(error: RedoubtError, *, json: bool) -> None:
    """An error in its four parts, on standard error."""
    if json:
        print(jsonlib.dumps({"error": error.as_dict()}, ensure_ascii=False), file=sys.stderr)
        return
    text = Text.assemble(("error", "bold red"), f" ({error.reference}): {error.what}")
    if error.why:
        text.append(f"\n  why  {error.why}")
    if error.fix:
        text.append("\n  fix  ").append(error.fix, "bold")
    console(stderr=True).print(text)


class _Eyes:
    json = False

    def __init__(self) -> None:
        self._out = console()

    def rows(self, rows: Iterable[Any], columns: Mapping[str, str], *, title: str = "", empty: str = "none") -> None:
        found = [_fields(row) for row in rows]
        if not found:
            self._out.print(empty)
            return
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for name, heading in columns.items():
            numbers = all(isinstance(row.get(name), int | float | None) for row in found)
            table.add_column(heading, justify="right" if numbers else "left", overflow="fold")
        for row in found:
            table.add_row(*(Text(_cell(row.get(name))) for name in columns))
        self._out.print(table)

    def record(self, record: Any, labels: Mapping[str, str] | None = None, *, title: str = "") -> None:
        fields = _fields(record)
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, label in (labels or {name: name.replace("_", " ") for name in fields}).items():
            table.add_row(label, Text(_cell(fields.get(name))))
        self._out.print(table)

    def show(self, *renderables: RenderableType) -> None:
        for renderable in renderables:
            self._out.print(renderable)

    def note(self, text: str) -> None:
        console(stderr=True).print(text)


class _Json:
    json = True

    def rows(self, rows: Iterable[Any], columns: Mapping[str, str], *, title: str = "", empty: str = "none") -> None:
        del columns, title, empty
        _print([plain(row) for row in rows])

    def record(self, record: Any, labels: Mapping[str, str] | None = None, *, title: str = "") -> None:
        del labels, title
        _print(plain(record))

    def show(self, *renderables: RenderableType) -> None:
        del renderables

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)


def _print(value: Any) -> None:
    print(jsonlib.dumps(value, ensure_ascii=False, indent=2))


def _fields(row: Any) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list | tuple | set | frozenset):
        return (
            ", ".join(_cell(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)) or "–"
        )
    return str(plain(value))
