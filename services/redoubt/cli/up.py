"""`redoubt up` and `redoubt down`: a whole site on this machine, from nothing to searchable."""

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from redoubt import settings
from redoubt.cli import output
from redoubt.cli.exits import Exit
from redoubt.cli.progress import Progress
from redoubt.embedded import check, start, stop
from redoubt.embedded.lock import Locked, holder, locked
from redoubt.embedded.process import alive
from redoubt.embedded.services import ORDER
from redoubt.embedded.state import Layout, SiteState, read
from redoubt.errors import Conflict, Environment, RedoubtError, Unavailable

DEFAULT_PORT = 8460
PATIENCE_S = 300.0  # for a start; the embedder takes most of it
GIVE_UP_CRASHES = 3  # of one process that was never ready


def up(  # noqa: PLR0917
    docs: Annotated[
        list[Path] | None,
        typer.Option("--docs", "-d", exists=True, file_okay=False, resolve_path=True, help="A folder; repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(help="The site's name, for people.")] = "",
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="Who may read the folders; repeatable. [everyone]")
    ] = None,
    acl_file: Annotated[
        Path | None,
        typer.Option("--acl-file", exists=True, dir_okay=False, help="A source file with path patterns and groups."),
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The gateway's port on 127.0.0.1. [8460]")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the models and the documents.")] = False,
    json: output.JsonOption = False,
) -> None:
    """Start the site here, take in the folders, and return when everything found is searchable.

    What already runs is left alone, what was already taken in is not taken in again. State lives under
    REDOUBT_HOME; set it to keep two sites side by side, each on a port of its own.

    **Examples**

    `redoubt up --docs ~/handbook` · `redoubt up --docs ~/hr --group hr` · `redoubt up --json | jq -r .key`
    """
    out = output.writer(json)
    layout = Layout(settings.home())
    with ExitStack() as held:
        try:
            held.enter_context(locked(layout.lock("up")))
        except Locked as error:
            who = holder(layout.lock("up"))
            raise Conflict(
                f"another `redoubt up` is at work on {layout.home}",
                why=f"it is process {who.pid}" if who else "it has just begun",
                fix="wait for it, or set REDOUBT_HOME for a second site",
            ) from error
        except OSError:
            pass  # the preflight says what is wrong with the home
        state = begin(layout, port, name, out)
        wait_ready(layout, out, ("postgres", "catalog") if detach else ORDER)
    out.record(
        {
            "url": f"http://127.0.0.1:{state.port}",
            "key": layout.key.read_text("ascii").strip(),
            "home": layout.home,
        },
        {"url": "address", "key": "key", "home": "home"},
    )


def begin(layout: Layout, port: int | None, name: str, out: output.Writer) -> SiteState:
    """Check this machine and start a supervisor, unless one is at work; returns the site's state."""
    before = read(layout)
    if before is not None and start.supervised(layout) and before.phase not in ("stopping", "stopped", "failed"):
        if port not in (None, before.port):
            raise Conflict(
                f"the site in {layout.home} runs on port {before.port} already",
                fix=f"leave out --port, or `redoubt down` first and then `redoubt up --port {port}`",
            )
        return before
    running = before is not None and any(alive(child.identity) for child in before.children.values())
    chosen = port or (before.port if before else DEFAULT_PORT)
    chosen_name = name or (before.name if before else layout.home.name)
    if not running:
        preflight(layout, chosen, out)
    layout.prepare()
    start.start(layout, chosen, chosen_name)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = read(layout)
        if state is not None and start.supervised(layout) and state.pid is not None:
            return state
        if state is not None and state.phase == "failed":
            return state
        time.sleep(0.05)
    raise Unavailable("the supervisor did not start", fix=f"see {layout.log('supervisor')}")


def preflight(layout: Layout, port: int, out: output.Writer) -> None:
    """Tell what this machine lacks, all of it, before anything starts."""
    findings = check.judge(check.collect(layout, port))
    stops = [finding for finding in findings if finding.verdict == "stop"]
    for finding in findings:
        if finding.verdict == "warning":
            out.note(f"{finding.check}: {finding.found}; {finding.fix}")
    if not stops:
        return
    if not out.json:
        out.rows(findings, {"check": "check", "verdict": "", "found": "found", "fix": "what to do"})
    raise Environment(
        "this machine cannot run the site as it is: " + "; ".join(f"{f.check}: {f.found}" for f in stops),
        why="nothing was started",
        fix="; ".join(f.fix for f in stops if f.fix),
    )


def wait_ready(layout: Layout, out: output.Writer, wanted: tuple[str, ...]) -> None:
    """Show the processes as they come up; returns when the wanted ones are ready."""
    deadline = time.monotonic() + PATIENCE_S
    with Progress(out.json) as progress:
        while True:
            state = read(layout)
            assert state is not None
            progress.processes(state)
            if state.phase == "failed" and state.error:
                raise _failed(state.error)
            if all(_reached(state, name) for name in wanted):
                return
            for child in state.children.values():
                if child.restarts >= GIVE_UP_CRASHES and child.ready_at is None and child.last_crash:
                    raise Unavailable(
                        f"the {child.name} does not start: {child.last_crash.how}",
                        why=" | ".join(child.last_crash.log[-3:]) or "it left no message",
                        fix=f"see `redoubt logs {child.name}`; it is tried again until `redoubt down`",
                    )
            if time.monotonic() > deadline:
                missing = ", ".join(name for name in wanted if not _reached(state, name))
                raise Unavailable(
                    f"not ready after {PATIENCE_S:.0f} s: {missing}",
                    why="this machine may be too slow or too busy",
                    fix="see `redoubt status`; the start goes on, and `redoubt up` waits for it again",
                )
            if not start.supervised(layout) and state.phase in ("stopped", "stopping"):
                raise Conflict("the site was stopped while it started", fix="run `redoubt up` again")
            time.sleep(0.1)


def _reached(state: SiteState, name: str) -> bool:
    return (
        name in state.steps if name == "catalog" else name in state.children and state.children[name].state == "ready"
    )


def _failed(error: dict[str, str]) -> RedoubtError:
    known = Environment if error.get("reference") == Environment.reference else Conflict
    return known(error.get("what", "the site cannot run"), why=error.get("why", ""), fix=error.get("fix", ""))


def down(json: output.JsonOption = False) -> None:
    """Stop the site: the worker, the gateway, the embedder, then Postgres. Nothing is lost, nothing stays behind.

    **Examples**

    `redoubt down` · `REDOUBT_HOME=~/second redoubt down`
    """
    out = output.writer(json)
    layout = Layout(settings.home())
    told: dict[str, str] = {}
    began = time.monotonic()
    stopped = asyncio.run(stop.stop(layout, lambda name, how: told.update({name: how})))
    out.record(
        {"stopped": stopped, "home": layout.home, "seconds": round(time.monotonic() - began, 2)},
        {"stopped": "stopped", "home": "home", "seconds": "seconds"},
    )
    raise typer.Exit(Exit.OK)
