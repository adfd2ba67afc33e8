"""The supervisor: starts the site's processes, watches them, restarts what ends, adopts what already runs.

    cluster → postgres → catalog ─┬→ gateway
    embedder ─────────────────────┴→ ingest

It can be killed at any point: its guardian becomes the next supervisor, which finds the processes by pid and
start time and starts only what is missing.
"""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path

from redoubt import log
from redoubt.embedded import catalog, process
from redoubt.embedded.lock import Locked, locked
from redoubt.embedded.process import Identity
from redoubt.embedded.services import Service, database, embedder, own, services, trace
from redoubt.embedded.state import Child, ChildState, Crash, Layout, SiteState, read, write
from redoubt.embedded.stop import clear, stop_services
from redoubt.errors import Environment, RedoubtError, Unavailable

FIRST_DELAY_S, LAST_DELAY_S = 0.5, 30.0  # before a restart; doubled each time
HEALTHY_S = 60.0  # after this long the delay begins anew
PROBE_STARTING_S, PROBE_READY_S, PROBE_TIMEOUT_S = 0.1, 5.0, 20.0
UNWELL_PROBES = 3  # in a row, before a process that cannot recover by itself is restarted
LOG_BYTES = 20_000_000  # a longer log moves to NAME.log.1


def supervise(home: Path, port: int, name: str) -> None:
    """Run the site until SIGTERM; returns at once if another supervisor already does."""
    log.configure("supervisor", json=True)
    layout = Layout(home)
    try:
        layout.prepare()
        with locked(layout.lock("supervisor")):
            asyncio.run(Supervisor(layout, port, name).run())
    except Locked:
        log.get(__name__).info("another supervisor is at work")


class _Asked(Exception):
    """SIGTERM came: leaves the task group, which ends the others."""


class Supervisor:
    """One site's processes and what is known about them."""

    def __init__(self, layout: Layout, port: int, name: str) -> None:
        self._layout = layout
        self._log = log.get(__name__)
        self._stopping = asyncio.Event()
        self._reached = {step: asyncio.Event() for step in ("cluster", "catalog", "postgres", "embedder")}
        self._preparing = False  # a child of ours runs that the reaper must not collect
        self._owned: dict[int, subprocess.Popen[bytes]] = {}
        before = read(layout)
        self._state = SiteState(name=name, port=port, began_at=time.time())
        if before is not None and before.phase != "stopped":
            self._state.children = before.children
            self._state.notes = before.notes
            self._state.steps = before.steps
            self._state.began_at = before.began_at
        me = process.identify(os.getpid())
        assert me is not None
        self._state.pid, self._state.started = me

    async def run(self) -> None:
        """Until SIGTERM, or until something that no retry mends."""
        process.adopt_orphans()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        self._save()
        self._log.info("supervisor started", port=self._state.port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._site(tasks))
                tasks.create_task(self._guardian())
                tasks.create_task(self._housekeeping())
                await self._stopping.wait()
                raise _Asked
        except* _Asked:
            self._log.info("asked to stop")
        except* RedoubtError as group:
            error = _first(group)
            self._state.error = error.as_dict()
            self._log.error("the site cannot run", **error.as_dict())
        await stop_services(self._layout, self._state, lambda name, how: self._log.info(how, process=name))
        if self._state.error:
            self._state.phase = "failed"
            write(self._layout, self._state)
        self._log.info("supervisor stopped")

    async def _site(self, tasks: asyncio.TaskGroup) -> None:
        layout, state = self._layout, self._state
        found = services(layout, state.port)
        catalog.write_site(layout, catalog.describe(layout, state.port, state.name, embedder(layout)))
        state.children = {name: state.children.get(name) or Child(name=name) for name in found}
        self._save()
        for service in found.values():
            tasks.create_task(self._keep(service, state.children[service.name]))
        if not process.alive(state.children["postgres"].identity):
            await self._step("cluster", self._cluster())
        self._reached["cluster"].set()
        while True:
            await self._reached["postgres"].wait()
            try:
                await self._step("catalog", self._catalog())
                break
            except Unavailable:  # Postgres ended meanwhile; it is on its way back
                await asyncio.sleep(FIRST_DELAY_S)
        self._reached["catalog"].set()

    async def _cluster(self) -> None:
        self._preparing = True
        try:
            self._state.notes += await asyncio.to_thread(database(self._layout).prepare)
        except OSError as error:
            raise Environment(f"the database in {self._layout.data} cannot be prepared", why=str(error)) from error
        finally:
            self._preparing = False

    async def _catalog(self) -> None:
        if applied := await catalog.prepare(self._layout):
            self._log.info("migrated", applied=applied)

    async def _step(self, name: str, work: Coroutine[None, None, None]) -> None:
        began = time.monotonic()
        await work
        self._state.steps[name] = round(time.monotonic() - began, 3)
        self._save()

    async def _keep(self, service: Service, child: Child) -> None:
        """Have this service run, whatever happens to it."""
        delay = FIRST_DELAY_S
        known = child.identity if process.alive(child.identity) else None
        while True:
            if known is None:
                child.state, child.detail = "waiting", ""
                for need in service.needs:
                    await self._reached[need].wait()
                known = await self._launch(service, child)
            else:
                self._log.info("adopted", process=service.name, pid=known.pid)
            begun = time.monotonic()
            offset = _size(service.log)
            await self._watch(service, child, known)
            if service.name in self._reached:
                self._reached[service.name].clear()
            await self._record(service, child, known, since=offset)
            await clear(service.ending)
            self._reap()
            known = None
            delay = FIRST_DELAY_S if time.monotonic() - begun > HEALTHY_S else delay
            child.detail += f"; restarts in {delay:.1f} s"
            self._save()
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311
            delay = min(delay * 2, LAST_DELAY_S)
            child.restarts += 1

    async def _launch(self, service: Service, child: Child) -> Identity:
        await clear(service.ending)
        _rotate(service.log)
        popen = process.launch(
            service.command,
            mark=service.ending.trace.mark,
            environment=service.environment,
            log=service.log,
            account=service.account,
        )
        known = process.named(popen)
        self._owned[known.pid] = popen
        child.state, child.detail, child.launched_at, child.ready_at = "starting", "", time.time(), None
        child.pid, child.started = known
        self._save()
        self._log.info("launched", process=service.name, pid=known.pid)
        return known

    async def _watch(self, service: Service, child: Child, known: Identity) -> None:
        """Return when the process has ended, or was ended because it cannot recover by itself."""
        ended = asyncio.create_task(process.gone(known))
        failures = 0
        try:
            while not ended.done():
                probe = asyncio.create_task(self._probe(service, child))
                await asyncio.wait({ended, probe}, return_when=asyncio.FIRST_COMPLETED)
                if not probe.done():
                    probe.cancel()
                    break
                well = probe.result()
                failures = 0 if well is not False else failures + 1
                if child.ready_at and failures >= UNWELL_PROBES and service.restart_when_unwell:
                    self._log.error("unwell, so it is restarted", process=service.name, why=child.detail)
                    process.send(known, signal.SIGKILL)
                pause = PROBE_READY_S if child.state == "ready" else PROBE_STARTING_S
                await asyncio.wait({ended}, timeout=pause if child.ready_at is None or well else 1.0)
            await ended
        finally:
            ended.cancel()

    async def _probe(self, service: Service, child: Child) -> bool | None:
        """True: ready. False: it answers that it is not, or not at all. None: too slow to tell."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await service.probe()
        except TimeoutError:
            self._tell(child, "unwell" if child.ready_at else "starting", "slow to answer")
            return None
        except RedoubtError as error:
            self._tell(child, "unwell" if child.ready_at else "starting", error.why or error.what)
            return False
        if child.ready_at is None:
            child.ready_at, child.failed_starts = time.time(), 0
            took = child.ready_at - (child.launched_at or child.ready_at)
            self._log.info("ready", process=service.name, seconds=round(took, 2))
        self._tell(child, "ready", "")
        if service.name in self._reached:
            self._reached[service.name].set()
        return True

    def _tell(self, child: Child, state: ChildState, detail: str) -> None:
        if (child.state, child.detail) != (state, detail):
            if child.state != state and state == "unwell":
                self._log.warning("unwell", process=child.name, why=detail)
            child.state, child.detail = state, detail
            self._save()

    async def _record(self, service: Service, child: Child, known: Identity, *, since: int) -> None:
        popen = self._owned.pop(known.pid, None)
        how = process.ending(None if popen is None else await asyncio.to_thread(popen.wait))
        lines = process.tail(service.log, since=since)
        child.state, child.detail = "crashed", how
        child.failed_starts += child.ready_at is None
        child.pid, child.started, child.ready_at = None, None, None
        child.last_crash = Crash(at=time.time(), how=how, log=lines)
        self._save()
        self._log.error("ended unasked", process=service.name, how=how, log=lines)

    async def _guardian(self) -> None:
        """A process that sleeps until this one ends, and then takes its place."""
        layout, state = self._layout, self._state
        guardian = trace(layout, "guardian")
        await process.end(guardian)
        assert state.supervisor is not None
        command = [sys.executable, "-m", "redoubt.embedded", "guard", *map(str, state.supervisor)]
        while True:
            popen = process.launch(
                [*command, str(layout.home), str(state.port), state.name],
                mark=guardian.mark,
                environment=own(layout, state.port),
                log=layout.log("guardian"),
            )
            self._owned[popen.pid] = popen
            await process.gone(process.named(popen))
            popen.poll()
            self._owned.pop(popen.pid, None)
            await asyncio.sleep(FIRST_DELAY_S)

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(10)
            self._reap()
            for path in self._layout.logs.glob("*.log"):
                _rotate(path)

    def _reap(self) -> None:
        if not self._preparing:
            process.reap(self._owned)

    def _save(self) -> None:
        states = {child.state for child in self._state.children.values()}
        if states == {"ready"}:
            self._state.phase = "ready"
        elif self._state.phase != "starting":
            self._state.phase = "degraded"
        write(self._layout, self._state)


def _first(group: BaseExceptionGroup[RedoubtError]) -> RedoubtError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _rotate(path: Path) -> None:
    """Keep one older log; the file itself is emptied, since its writer appends to it."""
    if _size(path) > LOG_BYTES:
        with suppress(OSError):
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)
