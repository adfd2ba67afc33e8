"""The embedded site on the real thing: started, killed in every part, taken over, and gone without a trace."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from embedded_site import (
    Command,
    processes_of,
    shared_memory_left,
    shared_memory_of,
    sockets_below,
    until,
)

from redoubt.embedded.lock import locked
from redoubt.embedded.process import identify
from redoubt.embedded.state import Child, Layout, SiteState, write

pytestmark = pytest.mark.timeout(280)
QUESTION = "When does the observatory open its dome?"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, since sockets lie below it, and open to pass through for Postgres' account."""
    made = Path(tempfile.mkdtemp(prefix="rdt-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def docs(folder: Path) -> Path:
    path = folder / "docs"
    path.mkdir()
    (path / "dome.md").write_text("# The observatory\n\nThe observatory opens its dome at 21:40 in summer.\n")
    (path / "tea.txt").write_text("Tea is served in the library at four o'clock.\n")
    return path


@pytest.fixture(scope="module")
def up(folder: Path, docs: Path) -> Iterator[tuple[Command, dict[str, Any]]]:
    """A running site, and what `up` said."""
    command = Command(folder / "home")
    done = command("up", "--json", "--docs", str(docs), "--port", str(free_port()))
    assert done.code == 0, done.err
    yield command, done.json
    command("down")


@pytest.fixture
def site(up: tuple[Command, dict[str, Any]]) -> Command:
    """The site, whole again whatever the test before did to it."""
    command = up[0]
    until(lambda: command.state["phase"] == "ready", what=str(command.state))
    return command


def ask(said: dict[str, Any], question: str = QUESTION) -> httpx.Response:
    return httpx.post(
        f"{said['url']}/v1/chat/completions",
        json={"model": "main", "messages": [{"role": "user", "content": question}]},
        headers={"Authorization": f"Bearer {said['key']}"},
        timeout=30,
    )


def answers(said: dict[str, Any]) -> bool:
    with suppress(httpx.HTTPError):
        found = ask(said)
        return found.status_code == 200 and "21:40" in found.json()["choices"][0]["message"]["content"]
    return False


def versions(command: Command) -> list[tuple[Any, ...]]:
    """Each document with its version and when it became searchable: equal means that nothing was done anew."""
    with psycopg.connect(f"host={command.home}/run/postgres dbname=redoubt user=redoubt_admin") as connection:
        return connection.execute(
            "SELECT path, version, searchable_at FROM document WHERE deleted_at IS NULL ORDER BY path"
        ).fetchall()


def test_up_says_where_and_returns_when_all_is_searchable(up: tuple[Command, dict[str, Any]]) -> None:
    command, said = up
    assert said["home"] == str(command.home)
    assert (said["documents"], said["failed"]) == (2, 0)
    assert said["sources"][0]["groups"] == ["everyone"]
    assert answers(said)
    assert (command.home / "key").read_text().strip() == said["key"]
    assert (command.home / "key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_reachable_from_the_network_and_postgres_and_the_embedder_by_sockets_alone(site: Command) -> None:
    listening = {
        process.pid: {c.laddr for c in process.net_connections(kind="inet") if c.status == "LISTEN"}
        for process in processes_of(site.home)
    }
    # vLLM's engine coordinates with itself over ports of its own, on loopback.
    assert {address.ip for addresses in listening.values() for address in addresses} == {"127.0.0.1"}
    pids = site.pids()
    assert listening[pids["gateway"]] == {("127.0.0.1", site.state["port"])}
    assert listening[pids["postgres"]] == listening[pids["embedder"]] == listening[pids["ingest"]] == set()


def test_postgres_runs_under_an_account_of_its_own_and_nobody_else_reaches_it(site: Command) -> None:
    postgres = next(p for p in processes_of(site.home) if p.pid == site.pids()["postgres"])
    if os.geteuid() == 0:
        assert postgres.username() == "redoubt"
    assert (site.home / "data").stat().st_mode & 0o777 == 0o700
    assert (site.home / "run" / "postgres").stat().st_mode & 0o777 == 0o700
    assert (site.home / "run" / "services").stat().st_mode & 0o777 == 0o700
    with pytest.raises(psycopg.OperationalError, match="Peer"):
        psycopg.connect(f"host={site.home}/run/postgres dbname=redoubt user=postgres")


def test_up_again_changes_nothing(site: Command, up: tuple[Command, dict[str, Any]], docs: Path) -> None:
    pids, before = site.pids(), versions(site)
    again = site("up", "--json", "--docs", str(docs))
    assert again.code == 0, again.err
    assert again.json["key"] == up[1]["key"]
    assert again.json["url"] == up[1]["url"]
    assert not again.json["sources"][0]["changed"]
    assert site.pids() == pids
    assert versions(site) == before


def test_a_folder_for_one_group_does_not_open_by_being_named_again(site: Command, folder: Path) -> None:
    private = folder / "private"
    private.mkdir()
    (private / "vault.txt").write_text("The vault is under the staircase.\n")
    assert site("up", "--json", "--docs", str(private), "--group", "keepers").json["sources"][0]["groups"] == [
        "keepers"
    ]
    assert site("up", "--json", "--docs", str(private)).json["sources"][0]["groups"] == ["keepers"]


def test_a_second_up_at_the_same_time_is_told(site: Command) -> None:
    with locked(Layout(site.home).lock("up")):
        second = site("up", "--json")
    assert second.code == 5
    assert f"process {os.getpid()}" in second.error["why"]


def test_another_port_for_a_running_site_is_refused(site: Command) -> None:
    other = site("up", "--json", "--port", str(free_port()))
    assert other.code == 5
    assert "redoubt down" in other.error["fix"]


def test_a_port_in_use_is_told_before_anything_starts(folder: Path) -> None:
    command = Command(folder / "taken")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("up", "--json", "--port", str(port))
    assert done.code == 8
    assert f"{port} is taken" in done.error["what"]
    assert f"(pid {os.getpid()})" in done.error["what"]
    assert "--port" in done.error["fix"]
    assert processes_of(command.home) == []
    assert not (command.home / "data").exists()


@pytest.mark.parametrize("name", ["gateway", "ingest", "postgres", "embedder"])
def test_a_killed_process_is_shown_and_comes_back(site: Command, up: tuple[Command, dict[str, Any]], name: str) -> None:
    before, documents = site.pids(), versions(site)
    os.kill(before[name], signal.SIGKILL)
    until(lambda: site.state["children"][name]["last_crash"], what=f"the crash of {name}")
    shown = site.processes()[name]
    assert shown["last_crash"]["how"] == "signal SIGKILL"
    until(lambda: site.state["phase"] == "ready" and site.pids()[name] != before[name], what=f"{name} anew")
    until(lambda: answers(up[1]), what="an answer")
    assert {k: v for k, v in site.pids().items() if k != name} == {k: v for k, v in before.items() if k != name}
    assert versions(site) == documents
    assert site.processes()[name]["restarts"] >= 1


def test_an_engine_that_dies_alone_takes_its_server_with_it(site: Command, up: tuple[Command, dict[str, Any]]) -> None:
    before = site.pids()["embedder"]
    engine = next(p for p in processes_of(site.home) if p.ppid() == before and "EngineCore" in " ".join(p.cmdline()))
    engine.kill()
    until(lambda: site.pids()["embedder"] not in (None, before), what="another embedder")
    until(lambda: site.state["phase"] == "ready")
    until(lambda: answers(up[1]), what="an answer")


def test_the_supervisor_is_replaced_and_its_children_are_adopted(
    site: Command, up: tuple[Command, dict[str, Any]]
) -> None:
    before = site.state
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: site.state["pid"] not in (None, before["pid"]), what="a new supervisor")
    until(lambda: site.state["phase"] == "ready")
    assert site.pids() == {name: child["pid"] for name, child in before["children"].items()}
    assert answers(up[1])
    os.kill(site.pids()["gateway"], signal.SIGKILL)  # an adopted one is watched as well
    until(lambda: site.pids()["gateway"] not in (None, before["children"]["gateway"]["pid"]), what="the gateway anew")
    until(lambda: answers(up[1]), what="an answer")


def kill_supervision(command: Command) -> None:
    """Supervisor and guardian at one stroke."""
    supervision = [p for p in processes_of(command.home) if "redoubt.embedded" in p.cmdline()]
    assert len(supervision) == 2
    for process in supervision:
        process.suspend()
    for process in supervision:
        process.kill()


def test_without_any_supervision_the_site_serves_and_status_mends_it(
    site: Command, up: tuple[Command, dict[str, Any]]
) -> None:
    before = site.pids()
    kill_supervision(site)
    assert answers(up[1])
    assert site.status()["processes"]
    until(lambda: identify(site.state["pid"]), what="a new supervisor")
    until(lambda: site.state["phase"] == "ready")
    assert site.pids() == before


def test_down_without_any_supervision_leaves_nothing_and_loses_nothing(
    site: Command, up: tuple[Command, dict[str, Any]]
) -> None:
    documents, mapped = versions(site), shared_memory_of(site.home)
    assert any(name.startswith("/dev/shm/") for name in mapped), "the test looks at the wrong place"
    assert any(name.startswith("sysv ") for name in mapped), "the test looks at the wrong place"
    kill_supervision(site)
    os.kill(site.pids()["postgres"], signal.SIGKILL)
    done = site("down", "--json")
    assert done.code == 0, done.err
    assert done.json["stopped"]
    assert processes_of(site.home) == []
    assert sockets_below(site.home) == []
    assert shared_memory_left(mapped) == set()
    assert site("down", "--json").json["stopped"] is False
    assert site("status", "--json").code == 7
    again = site("up", "--json")
    assert again.code == 0, again.err
    assert again.json["url"] == up[1]["url"]
    assert again.json["key"] == up[1]["key"]
    assert versions(site) == documents
    assert answers(again.json)


def test_down_spares_a_process_that_only_has_a_pid_of_ours(folder: Path) -> None:
    layout = Layout(folder / "recycled")
    layout.prepare()
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        stale = Child(name="gateway", state="ready", pid=innocent.pid, started=1)
        write(layout, SiteState(name="x", port=free_port(), phase="ready", pid=innocent.pid, started=1,
                                children={"gateway": stale}))  # fmt: skip
        assert Command(layout.home)("down").code == 0
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.fixture(scope="module")
def ordinary() -> Iterator[tuple[str, list[str]]]:
    """An ordinary account and how to become it.

    It may read what it otherwise could not (an environment below /root), and has no other privilege.
    """
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid()).pw_name, []
        return
    name = f"rdt{os.getpid()}"
    subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", name], check=True)
    drop = ["setpriv", "--reuid", name, "--regid", name, "--clear-groups", "--no-new-privs"]
    reading = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    yield name, [*drop, *reading, "--bounding-set=-all,+dac_read_search"]
    subprocess.run(["userdel", name], check=True)


def test_an_ordinary_user_has_a_site_beside_it(
    site: Command, up: tuple[Command, dict[str, Any]], folder: Path, ordinary: tuple[str, list[str]]
) -> None:
    name, become = ordinary
    own, hats = folder / "own", folder / "hats"
    own.mkdir()
    hats.mkdir()
    (hats / "hat.txt").write_text("The hat of the harbour master is green.\n")
    shutil.chown(own, name)
    second = Command(own / ("deep" * 12) / "home", become)  # too long for a socket
    try:
        done = second("up", "--json", "--docs", str(hats), "--port", str(free_port()))
        assert done.code == 0, done.err
        said = done.json
        assert said["url"] != up[1]["url"]
        assert {p.username() for p in processes_of(second.home)} == {name}
        found = ask(said, "What colour is the hat of the harbour master?").json()
        assert "green" in found["choices"][0]["message"]["content"]
        assert ask(up[1] | {"key": said["key"]}).status_code == 401  # another site's key
        assert answers(up[1])
        assert site.state["phase"] == "ready"
        short = Layout(second.home).run
        short = short.with_name(short.name.replace(f"-{os.geteuid()}-", f"-{pwd.getpwnam(name).pw_uid}-"))
        assert sockets_below(short)
        assert (short.owner(), short.stat().st_mode & 0o777) == (name, 0o700)
    finally:
        second("down")
    assert processes_of(second.home) == []
    assert not short.exists()


def test_down_stops_gracefully_and_leaves_nothing(site: Command) -> None:
    mapped = shared_memory_of(site.home)
    assert site("down").code == 0
    assert processes_of(site.home) == []
    assert sockets_below(site.home) == []
    assert shared_memory_left(mapped) == set()
    assert not (site.home / "data" / "postmaster.pid").exists()
    log = (site.home / "log" / "postgres.log").read_text()
    assert "database system is shut down" in log.splitlines()[-1]
