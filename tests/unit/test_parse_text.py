"""Plain text: encodings by their evidence, and the headings that a layout shows."""

import pytest

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import Limits, parse
from redoubt.model import ParsedDocument, Reason

GERMAN = "Ärzte prüfen täglich die Größe – für 5 €.\n"


def read(data: bytes, name: str = "a/card.txt") -> ParsedDocument:
    return parse(data, name, limits=Limits())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_encodings_are_told_by_the_bytes(encoding: str) -> None:
    assert read(GERMAN.encode(encoding)).text == GERMAN.strip()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02binary\xff\xfe",
        GERMAN.encode("utf-16-le"),
        "Москва слезам не верит, и это правда.".encode("koi8-r"),
        "東京は日本の首都です。".encode("shift-jis"),
        GERMAN.encode()[:-1] + b"\xc3\n",  # UTF-8, cut within a character
        bytes(range(128, 256)),
        b"\xff\xfe\x00",  # half a character of UTF-16
        b"plain \x9d text",
    ],
)
def test_what_cannot_be_told_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentRejected) as refused:
        read(data)
    assert refused.value.reason == Reason.ENCODING


def test_line_ends_are_one() -> None:
    assert read(b"one\r\ntwo\rthree\n").text == "one\ntwo\nthree"


def test_a_short_first_line_is_the_title_and_short_lines_above_prose_are_headings() -> None:
    document = read(
        b"LOST PROPERTY\n\nThe office is at Tallow Hill, beside the post room.\n\n"
        b"How to collect it\nBring an identity card. A relative needs a signed note from the owner.\n\n"
        b"Storage\n-------\nItems are kept for 60 days.\n"
    )
    assert document.title == "LOST PROPERTY"
    assert [s.heading for s in document.sections] == [(), ("How to collect it",), ("Storage",)]
    assert "How to collect it\n\nBring an identity card." in document.text


def test_wrapped_prose_has_no_headings() -> None:
    prose = (
        b"The network is free, and it works on every ward and in\nevery waiting room. It does not reach the parks.\n"
    )
    document = read(prose * 2)
    assert document.title == "card"
    assert document.text == (prose * 2).decode().strip()
    assert [s.heading for s in document.sections] == [()]


def test_html_called_txt_is_read_as_html() -> None:
    assert read(b"<!DOCTYPE html><title>T</title><p>Seen<script>unseen</script>").text == "Seen"
