"""Every bad file has its reason, and no reason quotes the file."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import SUPPORTED, Limits, parse, supported
from redoubt.ingest.parse.clean import clean
from redoubt.model import Reason

SUFFIXES = sorted(SUPPORTED)


def rejected(data: bytes, name: str, limits: Limits | None = None) -> DocumentRejected:
    with pytest.raises(DocumentRejected) as refused:
        parse(data, name, limits=limits or Limits())
    return refused.value


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("data", [b"", b" \r\n\t\n"], ids=["nothing", "blanks"])
def test_an_empty_file_is_empty_in_every_format(suffix: str, data: bytes) -> None:
    assert rejected(data, f"a{suffix}").reason == Reason.EMPTY


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv"])
def test_a_file_of_invisible_characters_is_empty(name: str) -> None:
    assert rejected("\ufeff\u200b\u2060\n".encode(), name).reason == Reason.EMPTY


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv"])
def test_more_text_than_is_allowed_is_too_large(name: str) -> None:
    data = b"word, word\n\n" * 1000
    assert rejected(data, name, Limits(max_text_chars=5000)).reason == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"text", "a"), (b"text", "a.xyz"), (b"\x7fELF", "a.bin"), (b"PK\x03\x04zip", "a.zip"), (b"PK\x03\x04", "a.txt")],
)
def test_what_is_not_supported_says_what_is(data: bytes, name: str) -> None:
    refused = rejected(data, name)
    assert refused.reason == Reason.UNSUPPORTED
    assert ".docx" in refused.fix


def test_names_are_judged_by_their_suffix_in_any_case() -> None:
    assert supported("A/B.PDF")
    assert not supported("A/B.pdf.exe")
    assert not supported("pdf")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rejection_quotes_the_file(suffix: str) -> None:
    data = b"%PDF-1.4 PK\x03\x04 confidential \xff\x81\x00 <!DOCTYPE confidential"
    for form in (data, data[9:], b"PK\x03\x04" + data):
        try:
            parse(form, f"a{suffix}", limits=Limits())
        except DocumentRejected as refused:
            assert "confidential" not in str(refused.as_dict()).lower()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=400),
        st.text(max_size=400).map(str.encode),
        st.lists(st.sampled_from([b"<p>", b"</b>", b"# a\n", b"|-|\n", b"> ", b"- ", b"\n", b"```", b"a;b", b'"'])).map(
            b"".join
        ),
        st.binary(max_size=300).map(lambda tail: b"%PDF-1.4\n" + tail),
        st.binary(max_size=300).map(lambda tail: b"PK\x03\x04" + tail),
    ),
    st.sampled_from(SUFFIXES),
)
def test_any_bytes_are_a_sound_document_or_rejected(data: bytes, suffix: str) -> None:
    try:
        document = parse(data, f"some/file{suffix}", limits=Limits())
    except DocumentRejected as refused:
        assert refused.reason in set(Reason)
        return
    assert document.text == clean(document.text)
    assert document.text.strip()
    assert document.title.strip()
    at = 0
    for section in document.sections:
        assert at <= section.span.start < section.span.end <= len(document.text)
        assert not document.text[at : section.span.start].strip()
        at = section.span.end
    assert not document.text[at:].strip()
    assert document == parse(data, f"some/file{suffix}", limits=Limits())
