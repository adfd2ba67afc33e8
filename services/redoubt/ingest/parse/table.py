"""Rows that can be understood by themselves: each value beside the name of its column."""

import re
from collections.abc import Sequence

from redoubt.ingest.parse.clean import one_line

_YEAR = re.compile(r"(?:19|20)\d\d")


def lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """One line a row, "name: value; name: value"; empty values are left out, empty rows too."""
    names = [one_line(name) for name in header]
    found = []
    for row in rows:
        values = []
        for i, cell in enumerate(row):
            name = names[i] if i < len(names) else ""
            if value := one_line(cell):
                values.append(f"{name}: {value}" if name and name != value else value)
        if values:
            found.append("; ".join(values))
    return found


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: every cell filled, all different, and none of them a number."""
    if len(rows) < 2:
        return False
    first = [cell.strip() for cell in rows[0]]
    while first and not first[-1]:
        first.pop()
    return (
        bool(first)
        and sum(map(bool, first)) >= max(1, len(first) - 1)  # a corner may be empty
        and len(set(first)) == len(first)
        and not any(cell.startswith("-") for cell in first)  # an option of a command, a list's mark, a number
        and not any(_number(cell) and not _names_years(rows, i) for i, cell in enumerate(first))
    )


def _names_years(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column is headed by a year, and holds something else than years."""
    cells = [row[column].strip() for row in rows if column < len(row)]
    return _YEAR.fullmatch(cells[0]) is not None and not any(_YEAR.fullmatch(cell) for cell in cells[1:])


def _number(cell: str) -> bool:
    digits = sum(map(str.isdigit, cell))
    return digits > 0 and not any(map(str.isalpha, cell))
