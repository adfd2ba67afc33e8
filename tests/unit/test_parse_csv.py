"""CSV: every row can answer by itself."""

import pytest

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import Limits, parse
from redoubt.model import ParsedDocument, Reason


def read(data: str | bytes, limits: Limits | None = None) -> ParsedDocument:
    data = data if isinstance(data, bytes) else data.encode()
    return parse(data, "prices/private-price-list.csv", limits=limits or Limits())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_rows_carry_their_columns_names_whatever_divides_them(delimiter: str) -> None:
    rows = [["code", "service", "price"], ["P-010", "Single room", "145"], ["P-011", "Health check", ""]]
    document = read("\r\n".join(delimiter.join(row) for row in rows))
    assert document.text == "code: P-010; service: Single room; price: 145\ncode: P-011; service: Health check"
    assert (document.title, [s.kind for s in document.sections]) == ("private-price-list", ["table"])


def test_quotes_hold_delimiters_quotes_and_line_ends() -> None:
    document = read('name,note\nA,"one, two ""three""\nfour"\nB,x\n')
    assert document.text == 'name: A; note: one, two "three" four\nname: B; note: x'


def test_a_decimal_comma_does_not_divide() -> None:
    assert (
        read("Leistung;Preis\nZimmer;14,50\nBad;3,20\n").text
        == "Leistung: Zimmer; Preis: 14,50\nLeistung: Bad; Preis: 3,20"
    )


def test_without_a_header_values_stand_alone() -> None:
    assert read("1,2\n3,4\n").text == "1; 2\n3; 4"
    assert read("A,2\nB,4\n").text == "A; 2\nB; 4"


def test_empty_rows_and_a_header_alone() -> None:
    assert read("a,b\n\n,\n1,2\n").text == "a: 1; b: 2"
    assert read("a,b\n").text == "a; b"


@pytest.mark.parametrize("data", ["x" * 10_000_000, 'a,b\n"' + "x,y\n" * 500_000, "x," * 5_000_000])
def test_a_row_of_megabytes_is_no_table(data: str) -> None:
    with pytest.raises(DocumentRejected) as refused:
        read(data)
    assert refused.value.reason == Reason.CORRUPT


@pytest.mark.parametrize("data", [",,,\n,,\n", "\ufeff\n", "  \n\n"])
def test_a_table_of_nothing_is_empty(data: str) -> None:
    with pytest.raises(DocumentRejected) as refused:
        read(data)
    assert refused.value.reason == Reason.EMPTY
