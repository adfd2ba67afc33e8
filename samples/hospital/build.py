"""Write the PDF and DOCX files of the sample corpus from the Markdown in `originals/`; each run gives the same bytes.

Needs `reportlab` and `python-docx`. The generated files are committed, so this runs only after an original changed.
"""

import io
import os
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import docx
from reportlab import rl_config
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import cm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

HERE = Path(__file__).parent
AUTHOR = "Larkmere Hospital Group"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class Block(NamedTuple):
    """One piece of an original: `kind` is h1 to h3, p, li, table or break."""

    kind: str
    text: str
    rows: tuple[tuple[str, ...], ...] = ()


def read(original: Path) -> tuple[dict[str, str], list[Block]]:
    """Split an original into its front matter and its blocks."""
    _, head, body = original.read_text(encoding="utf-8").split("---\n", 2)
    meta = dict(line.split(": ", 1) for line in head.strip().splitlines())
    return meta, [block for part in re.split(r"\n{2,}", body.strip()) for block in blocks(part)]


def blocks(part: str) -> Iterator[Block]:
    """Yield the blocks of one paragraph of Markdown."""
    lines = part.splitlines()
    if part == "\\newpage":
        yield Block("break", "")
    elif heading := re.fullmatch(r"(#{1,3}) (.+)", part):
        yield Block(f"h{len(heading[1])}", heading[2])
    elif lines[0].startswith("| "):
        cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
        yield Block("table", "", tuple(row for row in cells if not row[0].startswith("--")))
    elif lines[0].startswith("- "):
        yield from (Block("li", item.replace("\n", " ")) for item in part[2:].split("\n- "))
    else:
        yield Block("p", " ".join(lines))


def instant(date: str) -> datetime:
    """Return eight in the morning, UTC, of a date."""
    return datetime.fromisoformat(date).replace(hour=8, tzinfo=UTC)


def pdf(meta: dict[str, str], content: list[Block]) -> bytes:
    """Lay an original out as PDF, with its title and creation date in the metadata."""
    rl_config.invariant = 1
    os.environ["SOURCE_DATE_EPOCH"] = str(int(instant(meta["date"]).timestamp()))
    styles = getSampleStyleSheet()
    text = styles["BodyText"]
    text.fontSize, text.leading, text.splitLongWords = 11, 16, 0
    grid = [("GRID", (0, 0), (-1, -1), 0.5, colors.grey), ("FONT", (0, 0), (-1, 0), "Helvetica-Bold")]

    def flowable(block: Block) -> Flowable:
        match block.kind:
            case "break":
                return PageBreak()
            case "table":
                return Table(block.rows, hAlign="LEFT", style=grid)
            case "li":
                return Paragraph(block.text, text, bulletText="•")
            case "p":
                return Paragraph(block.text, text)
        return Paragraph(block.text, styles[f"Heading{block.kind[1]}"])

    def footer(canvas: Canvas, _: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(2 * cm, 1.2 * cm, f"{AUTHOR} – {meta['title']} – {canvas.getPageNumber()}")

    out = io.BytesIO()
    story: list[Flowable] = [Paragraph(meta["title"], styles["Title"]), Spacer(1, 0.3 * cm), *map(flowable, content)]
    lang = meta.get("language", "en")
    SimpleDocTemplate(out, pagesize=A4, title=meta["title"], author=AUTHOR, lang=lang).build(
        story, onFirstPage=footer, onLaterPages=footer
    )
    return out.getvalue()


def word(meta: dict[str, str], content: list[Block]) -> bytes:
    """Write an original as DOCX, with headings by Word's own styles and its dates in the core properties."""
    document = docx.Document()
    properties = document.core_properties
    properties.title, properties.author, properties.comments = meta["title"], AUTHOR, ""
    properties.language = meta.get("language", "en")
    properties.created, properties.modified = instant(meta.get("created", meta["date"])), instant(meta["date"])
    properties.last_modified_by, properties.revision = AUTHOR, 1
    document.add_heading(meta["title"], 0)
    for block in content:
        match block.kind:
            case "break":
                document.add_page_break()
            case "table":
                table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
                for row in block.rows:
                    for cell, value in zip(table.add_row().cells, row, strict=True):
                        cell.text = value
            case "li":
                document.add_paragraph(block.text, "List Bullet")
            case "p":
                document.add_paragraph(block.text)
            case level:
                document.add_heading(block.text, int(level[1]))
    packed = io.BytesIO()
    document.save(packed)
    return with_fixed_times(packed)


def with_fixed_times(packed: io.BytesIO) -> bytes:
    """Pack a DOCX again, its members in a fixed order and without the time of packing."""
    out = io.BytesIO()
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        names = [name for name in old.namelist() if name != "[Content_Types].xml"]
        for name in ["[Content_Types].xml", *sorted(names)]:
            member = zipfile.ZipInfo(name, ZIP_EPOCH)
            member.compress_type, member.create_system = zipfile.ZIP_DEFLATED, 3
            new.writestr(member, old.read(name))
    return out.getvalue()


def main() -> None:
    """Write each document whose original is `originals/<path>.md`."""
    for original in sorted((HERE / "originals").rglob("*.md")):
        target = HERE / "documents" / original.relative_to(HERE / "originals").with_suffix("")
        meta, content = read(original)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pdf(meta, content) if target.suffix == ".pdf" else word(meta, content))


if __name__ == "__main__":
    main()
