"""The preflight's verdicts, each on its own, and how it looks at this machine."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from redoubt.embedded import check
from redoubt.embedded.check import Facts, Finding, judge
from redoubt.embedded.state import Layout
from redoubt.errors import Environment

GOOD = Facts(
    python=(3, 11), port=8460, port_taken=False, port_holder="", port_denied=False, port_instead=8460,
    memory_available=8_000_000_000, memory_limit="this machine", disk_free=50_000_000_000,
    home=Path("/srv/redoubt"), home_problem="",
    blocked_at=None, run=Path("/srv/redoubt/run"), vllm_problem=None, postgres_problem=None,
)  # fmt: skip


def verdict(facts: Facts, name: str) -> Finding:
    found = judge(facts)
    changed = [finding for finding in found if finding.verdict != "ok"]
    assert [finding.check for finding in changed] == [name]
    assert changed[0].fix
    return changed[0]


def test_a_good_machine_passes_all() -> None:
    assert {finding.verdict for finding in judge(GOOD)} == {"ok"}


def test_a_taken_port_names_its_holder_and_the_way_out() -> None:
    found = verdict(replace(GOOD, port_taken=True, port_holder="nginx (pid 7)", port_instead=8463), "port")
    assert found.verdict == "stop"
    assert "8460 is taken, by nginx (pid 7)" in found.found
    assert "--port 8463" in found.fix


def test_a_privileged_port_is_not_called_taken() -> None:
    found = verdict(replace(GOOD, port=80, port_denied=True, port_instead=1025), "port")
    assert "privileged" in found.found and "--port 1025" in found.fix


@pytest.mark.parametrize(("available", "told"), [(3_000_000_000, "warning"), (1_000_000_000, "stop")])
def test_memory_is_told_with_what_is_wanted(available: int, told: str) -> None:
    found = verdict(replace(GOOD, memory_available=available), "memory")
    assert found.verdict == told
    assert "available on this machine" in found.found and "wanted" in found.found


def test_a_full_disk_stops() -> None:
    assert verdict(replace(GOOD, disk_free=10_000_000), "disk").verdict == "stop"


@pytest.mark.parametrize("python", [(3, 10), (3, 14)])
def test_a_python_outside_the_range_stops(python: tuple[int, int]) -> None:
    assert verdict(replace(GOOD, python=python), "python").verdict == "stop"


def test_a_home_that_cannot_be_written_stops() -> None:
    assert "cannot be written" in verdict(replace(GOOD, home_problem="it cannot be written"), "home").found


def test_a_closed_parent_is_named_and_not_opened() -> None:
    found = verdict(replace(GOOD, blocked_at=Path("/root")), "home")
    assert "/root" in found.found
    assert "chmod o+x /root" in found.fix


def test_what_is_not_installed_says_how_to_install_it() -> None:
    problem = Environment("there is no vLLM", why="…", fix="run `make install`")
    assert verdict(replace(GOOD, vllm_problem=problem), "embedder").fix == "run `make install`"


def test_short_sockets_elsewhere_are_mentioned() -> None:
    home = next(f for f in judge(replace(GOOD, run=Path("/tmp/redoubt-0-abc"))) if f.check == "home")
    assert "/tmp/redoubt-0-abc" in home.found


def test_the_holder_of_a_port_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        facts = check.collect(Layout(Path("/srv/redoubt")), port)
        assert facts.port_taken and facts.port_holder == check.port_holder(port)
        assert facts.port_instead != port and not check.port_problem(facts.port_instead)
        assert check.port_holder(port).endswith(f"(pid {os.getpid()})")
    assert not check.port_problem(port)
    assert check.port_holder(port) == ""


def test_looking_changes_nothing(tmp_path: Path) -> None:
    facts = check.collect(Layout(tmp_path / "a" / "b"), 1 + 1024)
    assert facts.memory_available > 0 and facts.disk_free > 0
    assert list(tmp_path.iterdir()) == []


def test_a_home_of_somebody_else_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "not a directory" in check.collect(Layout(file / "home"), 1025).home_problem


def test_the_first_closed_parent_is_the_one_that_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    closed = tmp_path / "closed"
    (closed / "home").mkdir(parents=True)
    closed.chmod(0o700)
    found = check._blocked_at(closed / "home")
    assert found is not None and closed.is_relative_to(found)
