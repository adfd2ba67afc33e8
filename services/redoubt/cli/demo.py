"""`redoubt demo`: a site over the sample corpus, three questions, and what there is to see afterwards."""

import asyncio
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from rich.text import Text

import redoubt
from redoubt import settings
from redoubt.cli import output
from redoubt.cli.ask import access
from redoubt.cli.latency import Stage, stages
from redoubt.cli.up import Wanted, bring_up, show_next
from redoubt.clients.gateway import Reply
from redoubt.embedded.state import Layout, SiteState, read
from redoubt.errors import GatewayDown, InputError, NotFound
from redoubt.metrics import STAGES
from redoubt.store.catalog import sources
from redoubt.store.catalog.connect import single

RULE = Text("─" * 72, style="dim")
_OUTCOMES = {"answered": "answered, with citations", "refused": "refused", "conflict": "sources disagree"}


@dataclass(frozen=True, slots=True)
class Question:
    """One of the demo's questions, and what it is there to show."""

    text: str
    groups: list[str]
    shows: str  # "answered", "refused" or "conflict"


def demo(
    samples: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, resolve_path=True, help="The sample corpus' folder.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The gateway's port on 127.0.0.1. [8460]")] = None,
    json: output.JsonOption = False,
) -> None:
    """Start a site over the sample corpus, ask it three questions, and leave it running.

    A fictional hospital group: one question is answered, one refused, one finds documents that disagree.

    **Examples**

    `redoubt demo` · `redoubt demo --port 8500` · `REDOUBT_HOME=/tmp/demo redoubt demo --json`
    """
    out = output.writer(json)
    folder = samples or find_samples()
    questions = read_questions(folder / "demo.toml")
    layout = Layout(settings.home())
    wanted = Wanted([folder / "documents"], "demo", acl_file=folder / "source.toml", port=port)
    up = bring_up(wanted, layout, out)
    site = settings.load_site(layout.site)
    began = time.monotonic()
    replies = asyncio.run(_ask(site, questions, out))
    asked_s = time.monotonic() - began
    fresh, latency = asyncio.run(_measure(site))
    state = read(layout)
    parts = timing(state, up["seconds"], asked_s) if state else {}
    if json:
        out.record(
            {
                **up,
                "questions": [
                    {"question": question.text, "shows": question.shows, "answer": reply.text, **reply.redoubt}
                    for question, reply in zip(questions, replies, strict=True)
                ],
                "freshness": fresh,
                "latency": latency,
                "timing": parts,
            }
        )
    else:
        _show_tables(out, fresh, latency, parts)
        out.show("")
        out.record(up, {"url": "address", "key": "key", "home": "home"})
        show_next(out, up)
    surprising = [q.text for q, reply in zip(questions, replies, strict=True) if outcome(reply) != q.shows]
    if surprising:
        raise redoubt_surprised(surprising)


def find_samples() -> Path:
    """The corpus of the repository that this installation, or the present folder, is in."""
    for root in (Path(redoubt.__file__).parents[2], Path.cwd()):
        if (root / "samples" / "hospital" / "demo.toml").is_file():
            return root / "samples" / "hospital"
    raise NotFound(
        "the sample corpus is not here",
        why="it comes with the repository, not with the package",
        fix="run it from a clone, or name the folder with --samples",
    )


def read_questions(path: Path) -> list[Question]:
    """The demo's questions."""
    try:
        loaded = tomllib.loads(path.read_text("utf-8"))
        return [Question(entry["text"], entry["groups"], entry["shows"]) for entry in loaded["question"]]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not hold the demo's questions", why=type(error).__name__) from error


def outcome(reply: Reply) -> str:
    """What a reply shows, in the words of `demo.toml`."""
    if reply.refused:
        return "refused"
    return "conflict" if reply.redoubt["conflicts"] else "answered"


def redoubt_surprised(questions: list[str]) -> GatewayDown:
    """The demo did not show what it is for."""
    return GatewayDown(
        "the demo did not go as it should: " + "; ".join(questions),
        why="another kind of answer came than the corpus supports",
        fix="if the folder was changed, take it anew; else report it with the output of `redoubt status --json`",
    )


async def _ask(site: settings.Site, questions: list[Question], out: output.Writer) -> list[Reply]:
    replies = []
    for question in questions:
        async with access(site, None, question.groups) as gateway:
            began = time.monotonic()
            reply = await gateway.ask(question.text, site.index)
            took = time.monotonic() - began
        replies.append(reply)
        if not out.json:
            _show(out, question, reply, took)
    return replies


def _show(out: output.Writer, question: Question, reply: Reply, took: float) -> None:
    said = _OUTCOMES[outcome(reply)]
    asked_as = f"asked as a member of {', '.join(question.groups)}; {said}; {output.duration(took)}"
    out.show("", RULE, Text(question.text, style="bold"), Text(asked_as, style="dim"), "")
    answer, _, _ = reply.text.partition("\n\nSources:")
    out.show(*(f"  {line}" if line else "" for line in answer.splitlines()))
    if reply.redoubt["citations"]:
        out.show("")
        out.rows(
            [{**cited, "as_of": cited["as_of"][:10]} for cited in reply.redoubt["citations"]],
            {"number": "", "document": "cited document", "version": "version", "page": "page", "as_of": "as of"},
        )


async def _measure(site: settings.Site) -> tuple[list[sources.SourceStatus], list[Stage]]:
    async with single(site.catalog.dsn_for(site.catalog.admin_role), service="cli") as connection:
        fresh = await sources.status(connection)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session,
            session.get(f"{site.gateway.url}/metrics") as answer,
        ):
            text = await answer.text()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise GatewayDown("the gateway does not give its metrics", why=type(error).__name__) from error
    return fresh, stages(text, "redoubt_stage_duration_seconds", "stage", STAGES)


def timing(state: SiteState, up_s: dict[str, float], asked_s: float) -> dict[str, float]:
    """Seconds by part; the processes start beside each other, so they do not add up."""
    parts = {
        f"{name} (from the start)": round(child.ready_at - state.began_at, 2)
        for name, child in state.children.items()
        if child.ready_at
    }
    parts["all processes ready"] = up_s["ready"]
    parts["documents searchable, after that"] = round(up_s["searchable"] - up_s["ready"], 2)
    parts["three questions"] = round(asked_s, 2)
    parts["in all"] = round(up_s["searchable"] + asked_s, 2)
    return parts


def _show_tables(
    out: output.Writer, fresh: list[sources.SourceStatus], latency: list[Stage], parts: dict[str, float]
) -> None:
    out.show("", RULE)
    out.rows(
        [
            {
                "source": row.source,
                "documents": row.documents,
                "chunks": row.chunks,
                "failed": row.failed,
                "p50": output.duration(row.freshness_p50_s),
                "p95": output.duration(row.freshness_p95_s),
                "checked": row.last_success_at,
            }
            for row in fresh
        ],
        {"source": "source", "documents": "documents", "chunks": "passages", "failed": "failed",
         "p50": "found → searchable p50", "p95": "p95", "checked": "last checked"},
        title="Freshness of the index",
    )  # fmt: skip
    out.show("")
    out.rows(
        [
            {
                "stage": stage.name,
                "count": stage.count,
                "mean": output.duration(stage.mean_s),
                "p50": output.duration(stage.p50_s),
                "p95": output.duration(stage.p95_s),
            }
            for stage in latency
        ],
        {"stage": "stage", "count": "times", "mean": "mean", "p50": "p50", "p95": "p95"},
        title="Latency of answering, by stage",
    )
    out.show("")
    out.rows(
        [{"part": part, "took": output.duration(seconds)} for part, seconds in parts.items()],
        {"part": "part", "took": "took"},
        title="Where the time went",
    )
