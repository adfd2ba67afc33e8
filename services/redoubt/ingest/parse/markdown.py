"""Markdown: CommonMark with tables, told as plain text that stays close to its source."""

import re
from collections.abc import Sequence
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from redoubt.ingest.parse import table
from redoubt.ingest.parse.clean import clean
from redoubt.ingest.parse.dates import instant
from redoubt.ingest.parse.decode import decode
from redoubt.ingest.parse.draft import Draft
from redoubt.ingest.parse.html import fragment
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument

MAX_FRONT_MATTER = 16_384  # characters
MAX_NESTING = 30  # quotes and lists in each other; beyond it markdown-it drops what they hold

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_DATES = ("as_of", "date", "updated", "modified", "lastmod", "last_modified", "published", "created")
_ABSURD = re.compile(r"(?:!?\[|> ?){100}")  # no one writes this, and it costs markdown-it the square of its length
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_MARKDOWN = MarkdownIt("commonmark", {"html": True, "maxNesting": MAX_NESTING}).enable(["table", "strikethrough"])


def parse(data: bytes, name: str, limits: Limits) -> ParsedDocument:
    """Headings become the heading path; emphasis marks, link targets and comments go; code stays as it is."""
    source = clean(decode(data))
    meta, body = front_matter(source)
    draft = Draft(name, limits)
    tokens = [] if _ABSURD.search(body) else _MARKDOWN.parse(body)
    if not tokens or any(token.level >= MAX_NESTING - 1 for token in tokens):
        draft.add(body)  # as it stands: nothing of it is lost
    else:
        _Walk(draft).tokens(tokens)
    title, language = meta.get("title"), meta.get("language", meta.get("lang"))
    return draft.finish(
        title=title if isinstance(title, str) else "",
        as_of=next((found for key in _DATES if (found := instant(meta.get(key)))), None),
        language=language if isinstance(language, str) else None,
    )


def front_matter(source: str) -> tuple[dict[str, Any], str]:
    """The YAML mapping at the top, and what follows it; anything else there is text."""
    match = _FRONT_MATTER.match(source[: MAX_FRONT_MATTER + 8])
    if not match:
        return {}, source
    try:
        # Strings, lists and mappings only: "no" is a language, and a bad date harmless.
        meta = yaml.load(match[1] or "", yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, source
    return (meta, source[match.end() :]) if isinstance(meta, dict) else ({}, source)


class _Walk:
    """One pass over the token stream; the stack is only that of open lists."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._lists: list[str] = []  # the next item's marker, by depth
        self._marker = ""  # of the item whose first paragraph comes next
        self._cells: list[str] = []
        self._rows: list[list[str]] = []

    def tokens(self, tokens: Sequence[Token]) -> None:
        for i, token in enumerate(tokens):
            match token.type:
                case "heading_open":
                    self._draft.heading(int(token.tag[1]), inline(tokens[i + 1]))
                case "inline" if tokens[i - 1].type in {"th_open", "td_open"}:
                    self._cells.append(inline(token))
                case "inline" if tokens[i - 1].type != "heading_open":
                    self._paragraph(inline(token), tight=tokens[i - 1].hidden)
                case "fence" | "code_block":
                    self._draft.add(token.content, "code")
                case "html_block":
                    self._draft.add(fragment(token.content))
                case "bullet_list_open" | "ordered_list_open" if not self._lists:
                    self._draft.apart()
                case "list_item_open":
                    self._marker = f"{token.info}{token.markup} "
                    self._lists.append(self._marker)
                case "list_item_close":
                    self._lists.pop()
                    self._marker = ""
                case "tr_close":
                    self._rows.append(self._cells)
                    self._cells = []
                case "table_close":
                    self._draft.rows(table.lines(self._rows[0], self._rows[1:]))
                    self._rows = []

    def _paragraph(self, text: str, *, tight: bool) -> None:
        indent = "  " * (len(self._lists) - 1) if self._lists else ""
        lead = self._marker or ("  " if self._lists else "")
        self._draft.add(indent + lead + text, item=tight or bool(self._marker))
        self._marker = ""


def inline(token: Token) -> str:
    """An inline token's visible text: links by their words, images by their description."""
    parts: list[str] = []
    for child in token.children or ():
        match child.type:
            case "text" | "code_inline":
                parts.append(child.content)
            case "softbreak" | "hardbreak":
                parts.append("\n")
            case "image":
                parts.append(inline(child) if child.children else child.content)
            case "html_inline" if _BREAK.fullmatch(child.content):
                parts.append("\n")
    return "".join(parts)
