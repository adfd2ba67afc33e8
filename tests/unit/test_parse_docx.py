"""DOCX: headings by style, rows with their columns' names, and archives that mean harm."""

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime

import docx
import pytest
from docx.document import Document

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import Limits, parse
from redoubt.model import ParsedDocument, Reason

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def read(data: bytes, limits: Limits | None = None) -> ParsedDocument:
    return parse(data, "hr/sickness.docx", limits=limits or Limits())


def written(fill: Callable[[Document], None], title: str = "") -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    document.core_properties.modified = datetime(2025, 3, 18, 8)
    fill(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def packed(body: str | bytes, extra: dict[str, bytes] | None = None) -> bytes:
    """A minimal Word file around the XML of `word/document.xml`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", body)
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return out.getvalue()


def paragraphs(*runs: str) -> str:
    return f"<w:document {W}><w:body>{''.join(f'<w:p>{run}</w:p>' for run in runs)}</w:body></w:document>"


def rejected(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(DocumentRejected) as refused:
        read(data, limits)
    return refused.value.reason


def test_headings_lists_tables_and_properties() -> None:
    def fill(document: Document) -> None:
        document.add_heading("Sickness absence", 0)
        document.add_paragraph("For all staff.")
        document.add_heading("Certificates", 1)
        document.add_paragraph("from day four", "List Bullet")
        document.add_paragraph("from day one abroad", "List Bullet")
        document.add_heading("Limits", 2)
        table = document.add_table(rows=0, cols=3)
        for row in (("Days", "Form", "To"), ("1–3", "none", "ward"), ("4+", "S-1", "office")):
            for cell, text in zip(table.add_row().cells, row, strict=True):
                cell.text = text
        document.add_paragraph("End.")

    document = read(written(fill, "Sickness absence"))
    assert document.title == "Sickness absence"
    assert document.as_of == datetime(2025, 3, 18, 8, tzinfo=UTC)
    assert [(s.heading, s.kind, document.text[s.span.start : s.span.end]) for s in document.sections] == [
        ((), "prose", "Sickness absence\n\nFor all staff."),
        (("Certificates",), "prose", "Certificates\n\n- from day four\n- from day one abroad"),
        (("Certificates", "Limits"), "prose", "Limits"),
        (("Certificates", "Limits"), "table", "Days: 1–3; Form: none; To: ward\nDays: 4+; Form: S-1; To: office"),
        (("Certificates", "Limits"), "prose", "End."),
    ]


def test_merged_cells_are_filled_in() -> None:
    def fill(document: Document) -> None:
        table = document.add_table(rows=3, cols=2)
        for i, text in enumerate(("Site", "Hours", "North", "8", "", "9")):
            table.cell(i // 2, i % 2).text = text
        table.cell(1, 0).merge(table.cell(2, 0))

    assert read(written(fill)).text == "Site: North; Hours: 8\nSite: North; Hours: 9"


def test_deleted_and_hidden_text_is_not_read_and_inserted_text_is() -> None:
    document = read(
        packed(
            paragraphs(
                "<w:r><w:t>Keep</w:t></w:r><w:del><w:r><w:delText>gone</w:delText><w:t>gone</w:t></w:r></w:del>",
                "<w:ins><w:r><w:t>added</w:t><w:br/><w:t>line</w:t></w:r></w:ins>",
                "<w:r><w:rPr><w:vanish/></w:rPr><w:t>unseen</w:t></w:r>",
                '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>seen</w:t></w:r>',
                "<w:r><w:instrText>PAGEREF</w:instrText></w:r>",
            )
        )
    )
    assert document.text == "Keep\n\nadded\nline\n\nseen"
    assert document.title == "sickness"


def test_styles_by_any_id_and_a_circle_of_styles() -> None:
    styles = (
        f'<w:styles {W}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mine"><w:basedOn w:val="berschrift1"/></w:style>'
        '<w:style w:styleId="A"><w:basedOn w:val="B"/></w:style><w:style w:styleId="B"><w:basedOn w:val="A"/></w:style>'
        "</w:styles>"
    ).encode()
    body = paragraphs(
        '<w:pPr><w:pStyle w:val="Mine"/></w:pPr><w:r><w:t>Fristen</w:t></w:r>',
        '<w:pPr><w:pStyle w:val="A"/></w:pPr><w:r><w:t>Text</w:t></w:r>',
        '<w:pPr><w:outlineLvl w:val="0"/></w:pPr><w:r><w:t>Orte</w:t></w:r>',
        "<w:r><w:t>Text</w:t></w:r>",
    )
    document = read(packed(body, {"word/styles.xml": styles}))
    assert [s.heading for s in document.sections] == [(), ("Orte",)]
    assert document.title == "Fristen"


def test_a_zip_that_is_no_word_file_is_corrupt() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert rejected(out.getvalue()) == Reason.CORRUPT


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_corrupt(keep: float) -> None:
    whole = written(lambda document: document.add_paragraph("Text. " * 500) and None)
    assert rejected(whole[: int(len(whole) * keep)]) == Reason.CORRUPT


def test_a_damaged_member_is_corrupt() -> None:
    whole = bytearray(packed(paragraphs("<w:r><w:t>Text</w:t></w:r>" * 50)))
    at = whole.index(b"word/document.xml") + 40
    whole[at : at + 20] = b"\xff" * 20
    assert rejected(bytes(whole)) == Reason.CORRUPT


def test_xml_that_does_not_end_is_corrupt() -> None:
    assert rejected(packed(f"<w:document {W}><w:body><w:p>")) == Reason.CORRUPT


def test_text_that_is_no_archive_is_corrupt() -> None:
    assert rejected(b"Dear all") == Reason.CORRUPT


def test_an_encrypted_office_file_is_encrypted_and_an_old_one_unsupported() -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)
    assert rejected(ole + "EncryptedPackage".encode("utf-16-le")) == Reason.ENCRYPTED
    assert rejected(ole + "WordDocument".encode("utf-16-le")) == Reason.UNSUPPORTED


def test_an_encrypted_archive_is_encrypted() -> None:
    whole = bytearray(packed(paragraphs()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := whole.find(signature, at + 1)) >= 0:
            whole[at + offset] |= 1
    assert rejected(bytes(whole)) == Reason.ENCRYPTED


def test_one_huge_member_is_a_bomb() -> None:
    assert rejected(packed(paragraphs("<w:r><w:t>" + " " * 20_000_000 + "</w:t></w:r>"))) == Reason.BOMB


def test_many_members_that_unpack_to_too_much_are_a_bomb() -> None:
    layers = {f"word/media/{i}.bin": bytes(2_000_000) for i in range(20)}
    assert rejected(packed(paragraphs(), layers), Limits(max_unpacked_bytes=30_000_000)) == Reason.BOMB


def test_too_many_members_are_a_bomb() -> None:
    layers = {f"word/media/{i}": b"" for i in range(200)}
    assert rejected(packed(paragraphs(), layers), Limits(max_members=100)) == Reason.BOMB


def test_nested_archives_are_not_opened() -> None:
    inner = packed(b"x" * 9_000_000)
    assert read(packed(paragraphs("<w:r><w:t>Text</w:t></w:r>"), {"word/embeddings/a.zip": inner})).text == "Text"


def test_a_member_that_lies_about_its_size_is_refused() -> None:
    whole = bytearray(packed(paragraphs("<w:r><w:t>" + "a" * 100_000 + "</w:t></w:r>")))
    at = whole.rindex(b"PK\x01\x02")
    whole[at + 24 : at + 28] = (1000).to_bytes(4, "little")  # the size unpacked, in the directory
    assert rejected(bytes(whole)) == Reason.CORRUPT


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_a_bomb_whatever_the_encoding(encoding: str) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    body = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE w:document [{entities}]>' + paragraphs(
        "<w:r><w:t>&a11;</w:t></w:r>"
    )
    assert rejected(packed(body.encode(encoding))) == Reason.BOMB


def test_external_entities_are_never_read() -> None:
    body = '<!DOCTYPE w:document [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + paragraphs("<w:r><w:t>&x;</w:t></w:r>")
    assert rejected(packed(body)) == Reason.BOMB


def test_xml_nested_without_end_is_corrupt() -> None:
    assert rejected(packed(f"<w:document {W}><w:body>" + "<w:sdt>" * 50_000)) == Reason.CORRUPT


def test_a_document_of_pictures_holds_no_text() -> None:
    assert rejected(packed(paragraphs(""))) == Reason.NO_TEXT
