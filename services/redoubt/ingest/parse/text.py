"""Plain text: kept as it stands, with the headings that its layout shows."""

import re

from redoubt.ingest.parse.clean import clean
from redoubt.ingest.parse.decode import decode
from redoubt.ingest.parse.draft import Draft
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument

MAX_HEADING = 80  # characters

_UNDERLINE = re.compile(r"([=\-~^])\1{2,}\s*")
_SENTENCE_END = tuple(".,;:!…")


def parse(data: bytes, name: str, limits: Limits) -> ParsedDocument:
    """Blocks are what blank lines divide; the first line is the title if it is short and stands apart."""
    draft = Draft(name, limits)
    title = ""
    blocks = [block for block in re.split(r"\n(?:[ \t]*\n)+", clean(decode(data))) if block.strip()]
    for i, block in enumerate(blocks):
        first, _, rest = block.partition("\n")
        second = rest.partition("\n")[0]
        if _UNDERLINE.fullmatch(second) and 2 * len(second.strip()) >= len(first.strip()) and _short(first):
            title = title or (first if i == 0 else "")
            draft.heading(1 if second[0] == "=" else 2, first)
            draft.add(rest.partition("\n")[2])
        elif not rest and i + 1 < len(blocks) and _short(first):
            title = title or (first if i == 0 else "")
            draft.heading(1 if i == 0 else 2, first)
        elif rest and _short(first) and len(second) > 1.5 * len(first):
            draft.heading(2, first)
            draft.add(rest)
        else:
            draft.add(block)
    return draft.finish(title=title)


def _short(line: str) -> bool:
    """Whether a line reads as a heading: short, no sentence, not a list item."""
    line = line.strip()
    return (
        0 < len(line) <= MAX_HEADING
        and not line.endswith(_SENTENCE_END)
        and (line[0].isupper() or line[0].isdigit())
        and any(map(str.isalpha, line))
    )
