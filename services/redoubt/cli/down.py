"""`redoubt down`: the whole site ended, in order."""

import asyncio
import time

import typer

from redoubt import settings
from redoubt.cli import output
from redoubt.cli.exits import Exit
from redoubt.embedded import stop
from redoubt.embedded.state import Layout


def down(json: output.JsonOption = False) -> None:
    """Stop the site: the worker, the gateway, the embedder, then Postgres. Nothing is lost, nothing stays behind.

    **Examples**

    `redoubt down` · `REDOUBT_HOME=~/second redoubt down`
    """
    out = output.writer(json)
    layout = Layout(settings.home())
    began = time.monotonic()

    def told(name: str, how: str) -> None:
        out.note(f"{output.duration(time.monotonic() - began):>8}  {name} {how}")

    stopped = asyncio.run(stop.stop(layout, told))
    out.record(
        {"stopped": stopped, "home": layout.home, "seconds": round(time.monotonic() - began, 2)},
        {"stopped": "stopped", "home": "home", "seconds": "seconds"},
    )
    raise typer.Exit(Exit.OK)
