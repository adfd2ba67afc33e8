"""The start itself: one at a time, checked before anything runs, watched until it is ready."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from redoubt.cli import output
from redoubt.cli.progress import Progress
from redoubt.embedded import check, start
from redoubt.embedded.lock import Locked, holder, locked
from redoubt.embedded.process import alive
from redoubt.embedded.state import Layout, SiteState, read
from redoubt.errors import Conflict, Environment, RedoubtError, Unavailable

DEFAULT_PORT = 8460
PATIENCE_S = 300.0  # for a start; the embedder takes most of it
GIVE_UP_CRASHES = 3  # of one process that was never ready


@contextmanager
def starting(layout: Layout) -> Iterator[None]:
    """One start at a time; Ctrl-C leaves what was begun to the supervisor, and says so."""
    with ExitStack() as held:
        with suppress(OSError):  # the preflight says what is wrong with the home
            layout.prepare()
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
            pass
        yield


def begin(layout: Layout, port: int | None, name: str, out: output.Writer) -> tuple[SiteState, bool]:
    """Check this machine and start a supervisor, unless one is at work; the state, and whether it was needed."""
    before = read(layout)
    if before is not None and start.supervised(layout) and before.phase not in ("stopping", "stopped", "failed"):
        if port not in (None, before.port):
            raise Conflict(
                f"the site in {layout.home} runs on port {before.port} already",
                fix=f"leave out --port, or `redoubt down` first and then `redoubt up --port {port}`",
            )
        return before, False
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
            return state, True
        if state is not None and state.phase == "failed":
            return state, True
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


def wait_ready(layout: Layout, progress: Progress, wanted: tuple[str, ...]) -> None:
    """Show the processes as they come up; returns when the wanted ones are ready."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        state = read(layout)
        assert state is not None
        progress.processes(state)
        if state.phase == "failed" and state.error:
            raise _failed(state.error)
        if all(_reached(state, name) for name in wanted):
            return
        for child in state.children.values():
            if child.failed_starts >= GIVE_UP_CRASHES and child.last_crash:
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
