"""Which format a file is: by its content first, by its name second, so that a wrong suffix does no harm."""

from pathlib import PurePosixPath
from typing import Literal

from redoubt.errors import DocumentRejected
from redoubt.model import Reason

Format = Literal["markdown", "text", "html", "pdf", "docx", "csv"]

_SUFFIXES: dict[str, Format] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".csv": "csv",
    ".tsv": "csv",
}
SUPPORTED = frozenset(_SUFFIXES)  # suffixes, lower case, with the dot

_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of old Office files, and of encrypted new ones
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_PAGES = (b"<!doctype html", b"<html")


def supported(name: str) -> bool:
    """Whether a file of this name is worth reading."""
    return PurePosixPath(name).suffix.lower() in SUPPORTED


def detect(data: bytes, name: str) -> Format:
    """The format to parse `data` as; refuses what is empty, of no supported kind, or not what it is called."""
    if not data.strip(b" \t\r\n\v\f"):
        raise DocumentRejected(Reason.EMPTY, "the file is empty", why=f"it holds {len(data)} bytes, none of them text")
    suffix = PurePosixPath(name).suffix.lower()
    named = _SUFFIXES.get(suffix)
    start = data[:1024]
    if b"%PDF-" in start and (named == "pdf" or start.startswith(b"%PDF-")):
        return "pdf"
    if start.startswith(_ZIP) and (named == "docx" or b"word/document.xml" in data):
        return "docx"
    if start.startswith(_OLE):
        _refuse_ole(data)
    if named is None or start.startswith(_ZIP):
        kind = "a ZIP archive" if start.startswith(_ZIP) else f"a {suffix} file" if suffix else "a file without suffix"
        raise DocumentRejected(
            Reason.UNSUPPORTED,
            f"{kind} cannot be read",
            fix=f"supported are {', '.join(sorted(SUPPORTED))}; exclude the file, or convert it",
        )
    if named in {"pdf", "docx"}:
        raise corrupt(f"the file is called {suffix}, and its content is something else")
    if named == "text" and start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        return "html"
    return named


def corrupt(what: str, why: str = "") -> DocumentRejected:
    """The rejection of a file whose structure is broken."""
    return DocumentRejected(Reason.CORRUPT, what, why=why, fix="open it with its own program and save it anew")


def _refuse_ole(data: bytes) -> None:
    if _ENCRYPTED in data:
        raise DocumentRejected(
            Reason.ENCRYPTED, "the document is encrypted", fix="save it without a password, or exclude it"
        )
    raise DocumentRejected(
        Reason.UNSUPPORTED, "the file is of an old Office format", fix="save it as .docx, or exclude it"
    )
