"""The gateway as a unit starts it, and the command line before it: `python -m redoubt.gateway`, `redoubt ask`."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from gateway_site import Corpus
from redoubt import settings
from redoubt.cli.main import app, assemble
from redoubt.errors import RedoubtError

pytestmark = pytest.mark.anyio

TEXT = "The cafeteria on level two opens at 07:30 every day."


@dataclass
class Unit:
    """One gateway process and the environment that names its site."""

    process: asyncio.subprocess.Process
    environment: dict[str, str]
    url: str

    async def cli(self, *arguments: str) -> tuple[int, str, str]:
        """A command in this process (a thread of it), since each new interpreter costs a second."""

        def invoke() -> tuple[int, str, str]:
            if not app.registered_commands:
                assemble([])
            result = CliRunner().invoke(app, arguments, env=self.environment)
            if isinstance(result.exception, RedoubtError):
                return result.exception.exit_code, result.stdout, str(result.exception.what)
            return result.exit_code, result.stdout, result.stderr

        return await asyncio.to_thread(invoke)


@pytest.fixture
async def unit(site: settings.Site, corpus: Corpus, tmp_path: Path) -> AsyncIterator[Unit]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "key").write_text(await corpus.key("local"))
    gateway = settings.Gateway(url=f"http://127.0.0.1:{port}", key_file=tmp_path / "key")
    (tmp_path / "site.toml").write_text(settings.dump_site(site.model_copy(update={"gateway": gateway})))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REDOUBT_")} | {
        "REDOUBT_SITE": str(tmp_path / "site.toml"),
        "REDOUBT_HOME": str(tmp_path),
        "REDOUBT_GATEWAY_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "redoubt.gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )
    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while True:
            assert process.returncode is None
            try:
                if (await client.get(f"{gateway.url}/health/ready")).status_code == 200:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    yield Unit(process, environment, gateway.url)
    if process.returncode is None:
        process.kill()
        await process.communicate()


async def test_ask_search_and_keys_from_the_command_line(unit: Unit, corpus: Corpus) -> None:
    await corpus.add("cafeteria.md", TEXT)
    await corpus.add("deal.md", "The merger with Quillstone closes on 14 November.", ["finance"])

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "redoubt.cli.main", "ask", "When does the cafeteria open?",
        env=unit.environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert f"“{TEXT}” [1]" in out
    assert "cafeteria.md" in out

    code, out, _ = await unit.cli("ask", "When does the cafeteria open?", "--json")
    told = json.loads(out)
    assert (code, told["outcome"]) == (0, "answered")
    assert "07:30" in told["answer"]

    merger = "When does the merger with Quillstone close?"
    code, out, _ = await unit.cli("ask", merger)
    assert code == 3
    assert "Quillstone" not in out
    assert "docs: 1 document" in out
    code, out, _ = await unit.cli("ask", merger, "--group", "finance", "--json")
    assert (code, json.loads(out)["outcome"]) == (0, "answered")
    assert [row["name"] for row in await corpus.execute("SELECT name FROM api_key WHERE revoked_at IS NULL")] == [
        "local"
    ]

    code, out, err = await unit.cli("key", "create", "anna", "--group", "finance", "--expires", "90d", "--json")
    made = json.loads(out)
    assert code == 0, err
    assert made["groups"] == ["everyone", "finance"]
    assert made["expires_at"]
    code, out, _ = await unit.cli("ask", merger, "--key", made["key"], "--json")
    assert code == 0
    code, out, _ = await unit.cli("key", "list")
    assert "anna" in out
    assert made["key"] not in out
    assert (await unit.cli("key", "create", "anna"))[0] == 5
    assert (await unit.cli("key", "create", "ben", "--expires", "soon"))[0] == 2
    assert (await unit.cli("key", "revoke", "anna"))[0] == 0
    assert (await unit.cli("key", "revoke", "anna"))[0] == 4
    code, _, err = await unit.cli("ask", merger, "--key", made["key"])
    assert code == 6
    assert "key" in err
    code, out, _ = await unit.cli("key", "list", "--all", "--json")
    assert {row["name"]: row["state"] for row in json.loads(out)}["anna"] == "revoked"

    code, out, _ = await unit.cli("search", "cafeteria", "--json")
    assert code == 0
    assert json.loads(out)[0]["document"] == "cafeteria.md"
    assert (await unit.cli("search", "cafeteria", "--index", "nothing"))[0] == 4


async def test_it_stops_when_told_and_logs_no_text(unit: Unit, corpus: Corpus) -> None:
    await corpus.add("cafeteria.md", TEXT)
    assert (await unit.cli("ask", "When does the cafeteria open?"))[0] == 0
    await unit.cli("ask", "What is the boiling point of tungsten?", "--key", "rdt_" + "z" * 52)
    unit.process.send_signal(signal.SIGTERM)
    _, err = await asyncio.wait_for(unit.process.communicate(), 15)
    assert unit.process.returncode == -signal.SIGTERM  # uvicorn ends by the signal once all is answered
    events = [json.loads(line) for line in err.decode().splitlines()]
    asked = [event for event in events if event["event"] == "request" and event["route"] == "/v1/chat/completions"]
    assert [event["outcome"] for event in asked] == ["answered", "rejected"]
    for word in ("cafeteria", "07:30", "tungsten", "rdt_", "zzzz"):
        assert word not in err.decode()
    code, _, told = await unit.cli("ask", "When does the cafeteria open?")
    assert code == 7
    assert "does not answer" in told


async def test_a_setting_that_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    environment = dict(os.environ) | {"REDOUBT_SITE": str(tmp_path / "none.toml")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "redoubt.gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 4
    assert json.loads(err)["what"].startswith("there is no site at")


async def test_a_wrong_environment_variable_is_named(site: settings.Site, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(settings.dump_site(site))
    environment = dict(os.environ) | {"REDOUBT_SITE": str(tmp_path / "site.toml"), "REDOUBT_GATEWAY_TOP_K": "many"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "redoubt.gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert "top_k" in json.loads(err)["why"]
