"""CSV: one line a row, each value beside its column's name, so that every row can answer by itself."""

import csv
import io

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import table
from redoubt.ingest.parse.decode import decode
from redoubt.ingest.parse.detect import corrupt
from redoubt.ingest.parse.draft import Draft
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument, Reason

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 20


def parse(data: bytes, name: str, limits: Limits) -> ParsedDocument:
    """The delimiter is the one that cuts the first rows into the same number of cells; quotes are RFC 4180's."""
    source = decode(data).replace("\x00", "")
    if not source.strip():
        raise DocumentRejected(Reason.EMPTY, "the table is empty")
    csv.field_size_limit(limits.max_line_chars)
    try:
        rows = _read(source, _delimiter(source, limits), limits)
    except csv.Error as error:
        raise _no_table(limits) from error
    draft = Draft(name, limits)
    if table.has_header(rows):
        draft.rows(table.lines(rows[0], rows[1:]))
    else:
        draft.rows(table.lines((), rows))
    return draft.finish()


def _read(source: str, delimiter: str, limits: Limits) -> list[list[str]]:
    rows = []
    for row in csv.reader(io.StringIO(source, newline=""), delimiter=delimiter):
        if sum(map(len, row)) > limits.max_line_chars:
            raise _no_table(limits)
        if any(cell.strip() for cell in row):
            rows.append(row)
    return rows


def _delimiter(source: str, limits: Limits) -> str:
    """The candidate under which most of the first rows agree on a number of cells above one."""
    sample = source[: min(200_000, limits.max_line_chars)]
    best, best_score = ",", 0.0
    for candidate in _DELIMITERS:
        widths = []
        try:
            for row in csv.reader(io.StringIO(sample, newline=""), delimiter=candidate):
                if row:
                    widths.append(len(row))
                if len(widths) == _SAMPLE_ROWS:
                    break
        except csv.Error:
            continue
        usual = max(set(widths), key=widths.count) if widths else 1
        score = widths.count(usual) / len(widths) + usual / 1000 if usual > 1 else 0.0
        if score > best_score:
            best, best_score = candidate, score
    return best


def _no_table(limits: Limits) -> DocumentRejected:
    return corrupt(
        f"a row of the table is longer than {limits.max_line_chars:,} characters", "a quote may never be closed"
    )
