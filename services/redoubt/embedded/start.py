"""Brings a supervisor into being, detached from whoever asks for it."""

import subprocess
import sys
import time

from redoubt.embedded import process
from redoubt.embedded.lock import holder
from redoubt.embedded.services import own, trace
from redoubt.embedded.state import Layout, SiteState, read, write


def supervised(layout: Layout) -> bool:
    """Whether a supervisor is at work."""
    return holder(layout.lock("supervisor")) is not None


def start(layout: Layout, port: int, name: str) -> subprocess.Popen[bytes]:
    """Start a supervisor in a session of its own; it says how far it is in `state.json`."""
    before = read(layout)
    if before is None or before.phase in ("stopped", "failed"):
        write(layout, SiteState(name=name, port=port, began_at=time.time()))
    return process.launch(
        [sys.executable, "-m", "redoubt.embedded", "supervise", str(layout.home), str(port), name],
        mark=trace(layout, "supervisor").mark,
        environment=own(layout, port),
        log=layout.log("supervisor"),
    )


def revive(layout: Layout) -> bool:
    """Give a site that should run a supervisor if it has lost it; True if that was needed.

    Supervisor and guardian have to be killed at one stroke for this: a machine short of memory may do it.
    """
    state = read(layout)
    if state is None or state.phase in ("stopped", "failed", "stopping") or supervised(layout):
        return False
    if any(process.members(trace(layout, "guardian"))) or not any(
        process.alive(child.identity) for child in state.children.values()
    ):
        return False  # the guardian is on its way; or all is gone, as after a reboot: `redoubt up` starts it
    start(layout, state.port, state.name)
    return True
