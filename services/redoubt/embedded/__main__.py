"""`python -m redoubt.embedded`: the supervisor of a site, or the guardian that takes its place.

    python -m redoubt.embedded supervise HOME PORT NAME
    python -m redoubt.embedded guard PID STARTED HOME PORT NAME

The guardian sleeps until the supervisor has ended, then becomes the supervisor, which adopts what runs. It is
ended first when the site goes down. Until then it needs the standard library only.
"""

import os
import select
import sys
import time


def _guard(pid: int, started: int, rest: list[str]) -> None:
    try:
        handle = os.pidfd_open(pid)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123  pathlib costs memory
            present = int(file.read().rpartition(")")[2].split()[19]) == started
        if present:
            select.select([handle], [], [])
        os.close(handle)
    except (ProcessLookupError, FileNotFoundError):
        pass  # it is gone already
    home = rest[0]
    log = os.open(f"{home}/log/supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    os.environ["REDOUBT_MARK"] = f"{home}#supervisor"
    time.sleep(0.2)  # a supervisor that cannot live is not to be born a hundred times a second
    os.execv(sys.executable, [sys.executable, "-m", "redoubt.embedded", "supervise", *rest])  # noqa: S606


def main() -> None:
    """Dispatch; the supervisor's imports are heavy, the guardian's must not be."""
    verb, *rest = sys.argv[1:]
    if verb == "guard":
        _guard(int(rest[0]), int(rest[1]), rest[2:])
        return
    from pathlib import Path

    from redoubt.embedded.supervise import supervise

    home, port, name = rest
    supervise(Path(home), int(port), name)


main()
