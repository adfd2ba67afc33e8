"""Bytes to text, by what the bytes say: a wrong guess would store, and cite, nonsense."""

import codecs
import re

from redoubt.errors import DocumentRejected
from redoubt.model import Reason

_MARKS = (  # the longer first: UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_WESTERN = re.compile("[ÄÖÜäöüßÀ-ÖØ-öø-ÿŒœŠšŽžŸ€£§©®°²³¹½¼¾µ«»‘’‚“”„–—…•·¡¿ª\u00a0]")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def decode(data: bytes, declared: str | None = None) -> str:
    """Text of bytes in UTF-8, UTF-16 or UTF-32 with a mark, the declared encoding, or plausible Windows-1252."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strict(data, encoding)
    if b"\x00" in data:
        raise _rejected("it holds NUL bytes, as binary files do")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if declared and declared.lower().replace("_", "-") not in {"utf-8", "utf8", "ascii", "us-ascii"}:
        return _strict(data, declared)
    return _windows(data)


def _strict(data: bytes, encoding: str) -> str:
    try:
        if not getattr(codecs.lookup(encoding), "_is_text_encoding", True):
            raise LookupError(encoding)
        return data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise _rejected("its bytes are not of the encoding that it declares") from error


def _windows(data: bytes) -> str:
    """Windows-1252, if it reads like a Western language: few letters with accents, no control characters."""
    high = len(data) - len(data.translate(None, bytes(range(0x80, 0x100))))
    whole = sum(len(m[0]) for m in _MULTIBYTE.finditer(data))
    if whole * 2 > high:
        raise _rejected("it is UTF-8 with broken characters in it")
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise _rejected("it is neither UTF-8 nor Windows-1252") from error
    if _CONTROL.search(data) or high > 0.3 * len(data) or len(_WESTERN.findall(text)) < 0.9 * high:
        raise _rejected("it is neither UTF-8 nor plausible as Windows-1252")
    return text


def _rejected(why: str) -> DocumentRejected:
    return DocumentRejected(
        Reason.ENCODING, "the file's encoding cannot be told", why=why, fix="save the file as UTF-8"
    )
