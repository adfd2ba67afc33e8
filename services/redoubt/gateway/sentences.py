"""Where sentences begin and end, so that a quote can be cut and stays verbatim.

A line is never crossed where lines carry structure (table rows, list items, headings); a hard-wrapped
paragraph is one stretch. Works on English and German; a wrong cut only makes a quote longer or shorter.
"""

import re

from redoubt.model import Span

# "Dr. Weber", "z. B. montags", "approx. 5", "No. 4": a full stop that ends no sentence.
_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mr|mrs|ms|prof|st|no|nr|vs|etc|e\.g|i\.e|eg|ie|approx|ca|bzw|usw|vgl|tel|fig|al|inc|ltd|co|jr|sr|sen|"
    r"gen|col|abs|art|str|inkl|exkl|evtl|ggf|max|min|mind|sog|u\.a|z\.b|z|b|d|h|u|a\.m|p\.m|bspw|jan|feb|mar|apr|jun|"
    r"jul|aug|sep|sept|oct|okt|nov|dec|dez)|\b[A-Z])\.$",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(?:^|\s)\d{1,2}\.$")  # "am 3. März"
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s|$)|\s[.!?](?=\s|$)")
_LINE = re.compile(r"[^\n]+")
_ITEM = re.compile(r"\s*(?:[-*•·–]|\d{1,2}[.)]|[a-z]\)|#{1,6}|\|)\s*\S")


def sentences(text: str) -> list[Span]:
    """The sentences of a text in order, without the white space around them; nothing but space is left out."""
    return [part for block in _blocks(text) for part in _cut(text, block)]


def _blocks(text: str) -> list[Span]:
    """Stretches that no sentence crosses: paragraphs, list items, table rows, headings."""
    blocks: list[Span] = []
    previous: Span | None = None
    for match in _LINE.finditer(text):
        line = Span(match.start(), match.end())
        if not match.group().strip():
            continue
        if previous and line.start == previous.end + 1 and _continues(text, previous, match.group()):
            blocks[-1] = Span(blocks[-1].start, line.end)
        else:
            blocks.append(line)
        previous = line
    return blocks


def _continues(text: str, previous: Span, line: str) -> bool:
    """Whether a line carries on the line before it: hard-wrapped prose, where the line before was long."""
    before = text[previous.start : previous.end].rstrip()
    if _ITEM.match(line) or "|" in line or "\t" in line or before.endswith((":", ";")):
        return False
    if line.lstrip()[:1].islower():
        return True
    return len(before) >= 60 and before[-1] not in ".!?" and "|" not in before and "\t" not in before


def _cut(text: str, block: Span) -> list[Span]:
    parts: list[Span] = []
    start = block.start
    for match in _END.finditer(text, block.start, block.end):
        end = match.end()
        before, after = text[start:end], text[end : block.end].lstrip()
        if after and match.group().startswith(".") and _no_end(before, after):
            continue
        if after and after[0].islower() and not match.group().startswith((" ", "!", "?")):
            continue
        _append(parts, text, start, end)
        start = end
    _append(parts, text, start, block.end)
    return parts


def _no_end(before: str, after: str) -> bool:
    if _ABBREVIATION.search(before) and not re.search(r"(?:etc|usw|[ap]\.m)\.$", before):
        return True
    return bool(_ORDINAL.search(before)) and not before[:-1].strip().isdigit() and after[0].isupper()


def _append(parts: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    start, end = start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
    if end > start:
        parts.append(Span(start, end))
