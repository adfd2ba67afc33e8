"""What `up` shows on the way: live on a terminal, a line a change on a pipe, on standard error always."""

import sys
import time
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from redoubt.cli.output import console, duration
from redoubt.embedded.services import ORDER
from redoubt.embedded.state import SiteState

_SIGNS = {"ready": ("✓", "green"), "crashed": ("✗", "red"), "unwell": ("!", "yellow"), "waiting": ("·", "dim")}


class Progress:
    """The processes, then the documents. With `quiet` a pipe hears only what went wrong."""

    def __init__(self, quiet: bool) -> None:
        self._console = console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True) if sys.stderr.isatty() else None
        self._quiet = quiet
        self._began = time.time()
        self._said: dict[str, str] = {}
        self.known: list[str] = []  # notes that were told at an earlier start

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def processes(self, state: SiteState) -> None:
        """Each process with how long it took, or has taken so far."""
        now = time.time()
        for note in state.notes:
            if note in self.known:
                continue
            self._say(f"note {note}", note)
        table = Table(box=None, pad_edge=False, show_header=False)
        for name in ORDER:
            child = state.children.get(name)
            shown = "waiting" if child is None else child.state
            took = 0.0
            if child is not None and child.launched_at and shown in ("ready", "starting"):
                took = (child.ready_at or now) - max(child.launched_at, 0)
            sign, style = _SIGNS.get(shown, ("", ""))
            mark: RenderableType = Text(sign, style=style) if sign else Spinner("dots")
            detail = child.detail if child is not None and shown in ("crashed", "unwell") else ""
            table.add_row(mark, name, shown, duration(took) if took else "", detail)
            if shown in ("ready", "crashed") or (shown == "starting" and name not in self._said):
                self._say(name, f"{name} {shown}" + (f" after {duration(took)}" if shown == "ready" else ""), detail)
        self._draw(table)

    def documents(self, searchable: int, pending: int, failed: int, *, scanning: bool) -> None:
        """How many documents can be found, are on the way, and are parked."""
        total = searchable + pending + failed
        text = f"{searchable} of {total} documents searchable"
        if failed:
            text += f", {failed} failed"
        if scanning:
            text += ", still looking"
        self._say("documents", text)
        bar = ProgressBar(total=max(total, 1), completed=searchable + failed, width=40)
        self._draw(Group(bar, Text(f"{text}  {duration(time.time() - self._began)}")))

    def _draw(self, renderable: RenderableType) -> None:
        if self._live:
            self._live.update(renderable)

    def _say(self, topic: str, text: str, detail: str = "") -> None:
        if self._said.get(topic) == text:
            return
        self._said[topic] = text
        if topic.startswith("note ") or (self._live is None and not self._quiet):
            self._console.print(
                f"{duration(time.time() - self._began):>8}  {text}" + (f" ({detail})" if detail else "")
            )
