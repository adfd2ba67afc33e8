"""Check the corpus against its questions: counts, dates, quotes, permissions. Prints each problem; exit 1 if any.

Needs `pypdfium2` and `python-docx` beside the standard library.
"""

import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import docx
import pypdfium2

HERE = Path(__file__).parent
DOCUMENTS = HERE / "documents"
FORMATS = {".md": 26, ".txt": 8, ".html": 9, ".pdf": 5, ".docx": 5, ".csv": 8}  # the least number of each
KINDS = {"fact": 15, "two-documents": 8, "superseded": 6, "conflict": 8, "forbidden": 8, "absent": 20}
GERMAN_QUESTIONS = 8
PERIOD = (date(2023, 9, 1), date(2026, 9, 30))
UNREADABLE = 1  # documents that no rule gives to anybody
FIELDS = {"id", "question", "language", "groups", "kind", "answerable", "answer", "wrong", "relevant"}


class Content(NamedTuple):
    """What a document says, in plain text without runs of white space, and the date that it carries."""

    text: str
    as_of: date | None


class Html(HTMLParser):
    """Collects the text of a page and the content of its `meta` elements."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.meta: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "meta" and named.get("name"):
            self.meta[str(named["name"])] = str(named.get("content"))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def markdown(path: Path) -> Content:
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    found = re.search(r"^date: (\S+)$", head, re.MULTILINE)
    return Content(body, date.fromisoformat(found[1]) if found else None)


def html(path: Path) -> Content:
    page = Html()
    page.feed(path.read_text(encoding="utf-8"))
    return Content(" ".join(page.text), date.fromisoformat(page.meta["date"]) if "date" in page.meta else None)


def pdf(path: Path) -> Content:
    with pypdfium2.PdfDocument(path) as document:
        text = "\n".join(page.get_textpage().get_text_bounded() for page in document)
        created = document.get_metadata_value("CreationDate")
    return Content(text, date.fromisoformat(created[2:10]) if created else None)


def word(path: Path) -> Content:
    document = docx.Document(str(path))
    cells = (cell.text for table in document.tables for row in table.rows for cell in row.cells)
    modified = document.core_properties.modified
    text = "\n".join(chain((paragraph.text for paragraph in document.paragraphs), cells))
    return Content(text, modified.date() if modified else None)


def plain(path: Path) -> Content:
    return Content(path.read_text(encoding="utf-8"), None)


READERS: dict[str, Callable[[Path], Content]] = {
    ".md": markdown, ".html": html, ".pdf": pdf, ".docx": word, ".txt": plain, ".csv": plain,
}  # fmt: skip


def squeeze(text: str) -> str:
    return " ".join(text.split())


def sidecar(path: Path) -> dict[str, Any]:
    beside = path.with_name(f"{path.name}.meta.toml")
    return tomllib.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}


def matches(path: str, pattern: str) -> bool:
    """Tell whether a glob pattern matches: `**` crosses folders, `*` and `?` do not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    expression = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.fullmatch("".join(expression.get(part, re.escape(part)) for part in parts), path) is not None


def readers_of(path: str, source: dict[str, Any]) -> set[str]:
    """Return the groups that may read a document; a sidecar replaces the first rule that matches."""
    own = sidecar(DOCUMENTS / path).get("groups")
    if own is not None:
        return set(own)
    return next((set(rule["groups"]) for rule in source["acl"] if matches(path, rule["pattern"])), set())


def document_problems(contents: dict[str, Content], source: dict[str, Any]) -> Iterator[str]:
    counts = Counter(Path(path).suffix for path in contents)
    for suffix, least in FORMATS.items():
        if counts[suffix] < least:
            yield f"{counts[suffix]} documents in {suffix}, fewer than {least}"
    for path, content in contents.items():
        if content.as_of is None:
            yield f"{path}: no date"
        elif not PERIOD[0] <= content.as_of <= PERIOD[1]:
            yield f"{path}: {content.as_of} is outside {PERIOD[0]} to {PERIOD[1]}"
    hidden = [path for path in contents if not readers_of(path, source)]
    if len(hidden) != UNREADABLE:
        yield f"{len(hidden)} documents that nobody may read, not {UNREADABLE}: {hidden}"
    for beside in DOCUMENTS.rglob("*.meta.toml"):
        if str(beside.relative_to(DOCUMENTS)).removesuffix(".meta.toml") not in contents:
            yield f"{beside.name}: a sidecar without its document"


def set_problems(questions: list[dict[str, Any]]) -> Iterator[str]:
    for field in ("id", "question"):
        for value, count in Counter(question[field] for question in questions).items():
            if count > 1:
                yield f"{field} {value!r} occurs {count} times"
    kinds = Counter(question["kind"] for question in questions)
    for kind, least in KINDS.items():
        if kinds[kind] < least:
            yield f"{kinds[kind]} questions of kind {kind}, fewer than {least}"
    for kind in kinds.keys() - KINDS.keys():
        yield f"unknown kind {kind}"
    answerable = sum(question["answerable"] for question in questions)
    if (len(questions), answerable) != (80, 50):
        yield f"{len(questions)} questions, {answerable} of them answerable, not 80 and 50"
    if sum(question["language"] == "de" for question in questions) < GERMAN_QUESTIONS:
        yield f"fewer than {GERMAN_QUESTIONS} German questions"


def question_problems(question: dict[str, Any], contents: dict[str, Content], source: dict[str, Any]) -> Iterator[str]:
    if question.keys() != FIELDS:
        yield f"fields {sorted(question.keys() ^ FIELDS)} are missing or unknown"
        return
    kind, groups, relevant = question["kind"], set(question["groups"]), question["relevant"]
    if "everyone" not in groups:
        yield "the asker is not in everyone"
    if question["answerable"] != (kind not in {"absent", "forbidden"}):
        yield f"answerable does not fit the kind {kind}"
    if question["answerable"] != bool(question["answer"]):
        yield "an answer is missing or not wanted"
    if (kind == "absent") != (not relevant):
        yield "relevant documents are missing or not wanted"
    for passage in relevant:
        path = passage["path"]
        if path not in contents:
            yield f"{path} does not exist"
            continue
        if squeeze(passage["quote"]) not in contents[path].text:
            yield f"{path} does not say {passage['quote']!r}"
        if bool(readers_of(path, source) & groups) == (kind == "forbidden"):
            yield f"{path} is {'' if kind == 'forbidden' else 'not '}readable for {sorted(groups)}"
    if all(passage["path"] in contents for passage in relevant):
        yield from pair_problems(question, contents)


def pair_problems(question: dict[str, Any], contents: dict[str, Content]) -> Iterator[str]:
    """Check what kinds with several documents ask for: two of them, newest first, with a wrong value in the older."""
    relevant = question["relevant"]
    if question["kind"] not in {"two-documents", "superseded", "conflict"}:
        return
    if len({passage["path"] for passage in relevant}) < 2:
        yield "fewer than two documents"
        return
    if question["kind"] == "two-documents":
        return
    dates = [contents[passage["path"]].as_of or PERIOD[0] for passage in relevant]
    if dates != sorted(set(dates), reverse=True):
        yield "the documents are not in order of their dates, newest first"
    newest, *older = (passage["quote"] for passage in relevant)
    if not any(value in quote and value not in newest for value in question["wrong"] for quote in older):
        yield "no wrong value stands in an older document alone: do they differ?"
    if question["kind"] == "superseded" and [passage["grade"] for passage in relevant] != [2] + [1] * len(older):
        yield "grades: the newest is 2, what it replaced is 1"


def demo_problems() -> Iterator[str]:
    asked = tomllib.loads((HERE / "demo.toml").read_text(encoding="utf-8"))["question"]
    if sorted(question["shows"] for question in asked) != ["answered", "conflict", "refused"]:
        yield "demo.toml: not one question each that is answered, refused and a conflict"
    if any(question["groups"] != ["everyone"] for question in asked):
        yield "demo.toml: a question is not asked by everyone alone"


def problems() -> Iterator[str]:
    """Yield what is wrong with the corpus."""
    source = tomllib.loads((HERE / "source.toml").read_text(encoding="utf-8"))
    contents: dict[str, Content] = {}
    for path in sorted(
        path for path in DOCUMENTS.rglob("*") if path.is_file() and not path.name.endswith(".meta.toml")
    ):
        name = path.relative_to(DOCUMENTS).as_posix()
        if path.suffix not in READERS:
            yield f"{name}: unknown format"
            continue
        text, as_of = READERS[path.suffix](path)
        contents[name] = Content(squeeze(text), sidecar(path).get("as_of", as_of))
    lines = (HERE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    yield from document_problems(contents, source)
    yield from set_problems(questions)
    for question in questions:
        yield from (f"{question['id']}: {problem}" for problem in question_problems(question, contents, source))
    yield from demo_problems()


if __name__ == "__main__":
    found = list(problems())
    print("\n".join(found) or "the corpus is consistent")
    sys.exit(bool(found))
