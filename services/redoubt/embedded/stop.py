"""Ends a site, with its supervisor or without: in order, gracefully first, and nothing is left behind."""

import asyncio
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress

from redoubt.embedded import postgres, process
from redoubt.embedded.lock import Locked, holder, locked
from redoubt.embedded.services import ORDER, Ending, endings, trace
from redoubt.embedded.state import Layout, SiteState, read, write
from redoubt.errors import Environment

Told = Callable[[str, str], None]  # name, what became of it


def _silent(name: str, what: str) -> None:
    del name, what


async def stop_services(layout: Layout, state: SiteState, told: Told = _silent) -> None:
    """Stop every process of the site but the supervisor, and clear what they leave."""
    state.phase = "stopping"
    await process.end(trace(layout, "guardian"))
    write(layout, state)
    ends = endings(layout)
    for name in reversed(ORDER):
        child = state.children.get(name)
        if child is not None and process.alive(child.identity):
            assert child.identity is not None
            how = "stopped"
            # A model that still loads does not listen to SIGTERM, and has nothing to lose.
            if name == "embedder" and child.state != "ready":
                how = "killed while it started"
            else:
                process.send(child.identity, ends[name].stop)
                if not await process.gone(child.identity, ends[name].patience_s):
                    how = f"killed: it did not stop within {ends[name].patience_s:.0f} s"
            told(name, how)
        await clear(ends[name])
        if child is not None:
            child.state, child.detail, child.pid, child.started = "stopped", "", None, None
            write(layout, state)
    postgres.forget_shared_memory(layout.data)
    await process.end(trace(layout))  # whatever carries the site's mark and belongs to no service
    if not layout.run.is_relative_to(layout.home):
        shutil.rmtree(layout.run, ignore_errors=True)  # the short directory for sockets; the next start makes it anew
    state.phase = "stopped"
    state.pid = state.started = None
    write(layout, state)


async def clear(ending: Ending) -> None:
    """Kill what is left of one service, and remove its sockets and temporary files."""
    await process.end(ending.trace)
    for socket in ending.sockets:
        socket.unlink(missing_ok=True)
    if ending.scratch is not None and ending.scratch.is_dir():
        for entry in ending.scratch.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with suppress(OSError):
                    entry.unlink()


async def stop(layout: Layout, told: Told = _silent, *, patience_s: float = 90.0) -> bool:
    """End the site; False if nothing of it ran.

    The guardian is ended first, or it would take the place of the supervisor that we end.
    """
    if not layout.state.exists() and not any(process.members(trace(layout))):
        return False
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    asked = False
    said: set[str] = set()
    while True:
        try:
            with locked(layout.lock("supervisor")):
                return await _stop_alone(layout, told) or asked
        except Locked:
            pass
        supervisor = holder(layout.lock("supervisor"))
        if supervisor is not None:
            if loop.time() > deadline:
                await process.end(trace(layout, "guardian"))
                process.send(supervisor, signal.SIGKILL)
            elif not asked:
                asked = process.send(supervisor, signal.SIGTERM)
            await process.gone(supervisor, 0.2)
            _tell_news(read(layout), said, told)
        elif loop.time() > deadline + 10:
            raise Environment(
                "the site cannot be stopped",
                why=f"{layout.lock('supervisor')} is locked by a process that has not said who it is",
                fix="see who holds it with `fuser`, end that, and run `redoubt down` again",
            )
        await asyncio.sleep(0.05)


def _tell_news(state: SiteState | None, said: set[str], told: Told) -> None:
    """Pass on what the supervisor has stopped since."""
    for child in state.children.values() if state else ():
        if child.state == "stopped" and child.name not in said:
            said.add(child.name)
            told(child.name, "stopped")


async def _stop_alone(layout: Layout, told: Told) -> bool:
    state = read(layout)
    running = any(process.members(trace(layout)))
    if state is None:
        await process.end(trace(layout))
        return running
    if running or state.phase != "stopped":
        await stop_services(layout, state, told)
    return running
