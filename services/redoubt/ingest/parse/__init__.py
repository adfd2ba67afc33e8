"""Bytes in, plain text with its structure out: one module a format, none of which does IO."""

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import csv, docx, html, markdown, pdf, text
from redoubt.ingest.parse.detect import SUPPORTED, detect, supported
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument, Reason

__all__ = ["SUPPORTED", "Limits", "detect", "parse", "supported"]

_PARSERS = {
    "markdown": markdown.parse,
    "text": text.parse,
    "html": html.parse,
    "pdf": pdf.parse,
    "docx": docx.parse,
    "csv": csv.parse,
}


def parse(data: bytes, name: str, *, limits: Limits) -> ParsedDocument:
    """What a document says; `name` is its path or file name.

    Raises `DocumentRejected` with a `model.Reason`. Time and memory are not bounded here: see `sandbox`.
    """
    found = detect(data, name)
    try:
        return _PARSERS[found](data, name, limits)
    except DocumentRejected as error:
        if error.reason == Reason.NO_TEXT and found in {"text", "markdown", "csv"}:
            raise DocumentRejected(
                Reason.EMPTY, "the file is empty", why="it holds nothing that can be seen"
            ) from error
        raise
