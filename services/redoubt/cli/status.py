"""`redoubt status` and `redoubt logs`: the processes of an embedded site."""

import time
from typing import Annotated, Any

import typer

from redoubt import settings
from redoubt.cli import output
from redoubt.cli.exits import Exit
from redoubt.errors import NotFound


def status(json: output.JsonOption = False) -> None:
    """Show the site's processes: state, uptime, restarts, the last crash.

    Exit code 0: all ready; 7: something is not; 4: no site was ever started here.

    **Examples**

    `redoubt status` · `redoubt status --json | jq .phase` · `REDOUBT_HOME=~/second redoubt status`
    """
    from redoubt.embedded import start
    from redoubt.embedded.process import alive
    from redoubt.embedded.state import Layout, read

    layout = Layout(settings.home())
    state = read(layout)
    if state is None:
        raise no_site(layout.home)
    out = output.writer(json)
    if start.revive(layout):
        out.note("the supervisor was gone; another one has taken over what runs")
    now = time.time()
    rows: list[dict[str, Any]] = []
    for child in state.children.values():
        running = alive(child.identity)
        shown = child.state if running or child.state not in ("ready", "starting", "unwell") else "gone"
        rows.append(
            {
                "name": child.name,
                "state": shown,
                "pid": child.pid if running else None,
                "uptime_s": now - child.launched_at if running and child.launched_at else None,
                "restarts": child.restarts,
                "detail": child.detail,
                "last_crash": None if child.last_crash is None else child.last_crash.model_dump(),
            }
        )
    phase = state.phase
    if phase in ("starting", "ready", "degraded") and any(row["state"] == "gone" for row in rows):
        phase = "degraded" if start.supervised(layout) else "stopped"
    answer = {
        "phase": phase,
        "name": state.name,
        "url": f"http://127.0.0.1:{state.port}",
        "home": layout.home,
        "supervisor": state.pid if start.supervised(layout) else None,
        "error": state.error,
        "processes": rows,
    }
    if json:
        out.record(answer)
    else:
        out.record(answer, {"phase": "site", "url": "address", "home": "home", "supervisor": "supervisor (pid)"})
        out.show("")
        out.rows(
            [{**row, "uptime": output.duration(row["uptime_s"])} for row in rows],
            {"name": "process", "state": "state", "pid": "pid", "uptime": "up for", "restarts": "restarts",
             "detail": ""},
        )  # fmt: skip
        for row in rows:
            if crash := row["last_crash"]:
                ago = output.duration(now - crash["at"])
                out.show("", f"{row['name']} ended {ago} ago: {crash['how']}. The last lines of its log:")
                out.show(*(f"  {line}" for line in crash["log"][-6:]))
    raise typer.Exit(Exit.OK if phase == "ready" else Exit.UNAVAILABLE)


def logs(
    name: Annotated[str, typer.Argument(help="postgres, embedder, gateway, ingest or supervisor.")] = "supervisor",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines from the end.")] = 50,
    json: output.JsonOption = False,
) -> None:
    """Show the end of a process' log.

    **Examples**

    `redoubt logs ingest` · `redoubt logs gateway -n 200`
    """
    from redoubt.embedded.process import tail
    from redoubt.embedded.state import Layout

    layout = Layout(settings.home())
    known = sorted(path.stem for path in layout.logs.glob("*.log")) if layout.logs.is_dir() else []
    if name not in known:
        raise NotFound(f"there is no log of {name!r}", fix=f"there are: {', '.join(known) or 'none yet'}")
    found = tail(layout.log(name), lines, longest=None)
    out = output.writer(json)
    if json:
        out.record({"name": name, "path": layout.log(name), "lines": found})
    else:
        out.show(*found)


def no_site(home: object) -> NotFound:
    """Nothing was ever started in this home."""
    return NotFound(f"there is no site in {home}", fix="start one with `redoubt up --docs DIR`, or set REDOUBT_HOME")
