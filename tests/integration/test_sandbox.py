"""The sandbox: a document that breaks its parser harms nothing else, and nothing outlives the worker."""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import Limits, parse
from redoubt.ingest.parse.sandbox import Sandbox
from redoubt.model import Reason
from redoubt.settings import IngestSettings

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
SAMPLES = HERE.parents[1] / "samples" / "hospital" / "documents"
HOSTILE = "hostile_parsers:parse"
SETTINGS = IngestSettings(concurrency=4, parse_timeout_s=2.0, parse_memory_bytes=500_000_000)


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.setenv("REDOUBT_SECRET", "hunter2")
        async with Sandbox(SETTINGS, parser=HOSTILE) as sandbox:
            yield sandbox
    assert not _wardens()


def _wardens() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "redoubt.ingest.parse.warden" in _command(p)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE and psutil.Process(pid).ppid() == 1
    except psutil.NoSuchProcess:
        return True


async def rejected(sandbox: Sandbox, order: str) -> DocumentRejected:
    with pytest.raises(DocumentRejected) as refused:
        await sandbox.parse(order.encode(), "order.txt")
    return refused.value


@pytest.mark.parametrize(
    "path", ["clinical/isolation-precautions.pdf", "public/maternity-guide.docx", "finance/capital-plan.csv"]
)
async def test_a_document_comes_back_as_the_parser_made_it(path: str) -> None:
    data = (SAMPLES / path).read_bytes()
    async with Sandbox(IngestSettings()) as sandbox:
        assert await sandbox.parse(data, path) == parse(data, path, limits=Limits())


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("hang", Reason.PARSER_TIMEOUT),
        ("spin", Reason.PARSER_TIMEOUT),
        ("eat", Reason.PARSER_MEMORY),
        ("eat-native", Reason.PARSER_MEMORY),
        ("abort", Reason.PARSER_CRASH),
        ("segfault", Reason.PARSER_CRASH),
        ("exit", Reason.PARSER_CRASH),
        ("fail hunter2", Reason.PARSER_CRASH),
        ("write hunter2", Reason.PARSER_CRASH),
        ("reject because", Reason.CORRUPT),
    ],
)
async def test_each_way_to_break_has_its_reason_and_costs_one_document(
    sandbox: Sandbox, order: str, reason: Reason
) -> None:
    refused = await rejected(sandbox, order)
    assert refused.reason == reason
    assert refused.what
    assert "hunter2" not in json.dumps(refused.as_dict())
    assert (await sandbox.parse(b"All is well.", "a.txt")).text == "All is well."


async def test_neighbours_of_a_broken_document_are_whole(sandbox: Sandbox) -> None:
    orders = ["hang", "eat", "abort", *(f"Document {i}." for i in range(40))]
    results = await asyncio.gather(*(sandbox.parse(o.encode(), "a.txt") for o in orders), return_exceptions=True)
    assert [type(r) for r in results[:3]] == [DocumentRejected] * 3
    assert [r.text for r in results[3:]] == orders[3:]


async def test_the_reasons_name_the_limit_and_the_setting(sandbox: Sandbox) -> None:
    slow = await rejected(sandbox, "hang")
    assert "2 s" in slow.why
    assert "REDOUBT_INGEST_PARSE_TIMEOUT_S" in slow.fix
    assert "REDOUBT_INGEST_PARSE_MEMORY_BYTES" in (await rejected(sandbox, "eat")).fix


async def test_a_parser_sees_no_secrets_and_its_output_goes_nowhere(
    sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (await sandbox.parse(b"print text", "a.txt")).text == "print text"
    assert capfd.readouterr() == ("", "")
    [warden] = _wardens()
    assert "REDOUBT_SECRET" not in warden.environ()


async def test_cancelling_ends_the_parser(sandbox: Sandbox, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    task = asyncio.create_task(sandbox.parse(f"hang {mark}".encode(), "a.txt"))
    await until(mark.is_symlink)
    pid = int(mark.readlink().name)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: gone(pid))
    assert (await sandbox.parse(b"All is well.", "a.txt")).text == "All is well."


async def test_leaving_the_sandbox_ends_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    mark, before = tmp_path / "pid", _wardens()
    async with Sandbox(SETTINGS, parser=HOSTILE) as sandbox:
        task = asyncio.create_task(sandbox.parse(f"hang {mark}".encode(), "a.txt"))
        await until(mark.is_symlink)
        pids = [int(mark.readlink().name), *(p.pid for p in _wardens() if p not in before)]
        task.cancel()
    await until(lambda: all(map(gone, pids)))


async def test_a_killed_warden_is_replaced_and_its_documents_are_parsed_again(sandbox: Sandbox, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    [warden] = _wardens()
    tasks = [
        asyncio.create_task(rejected(sandbox, f"hang {mark}")),
        *(asyncio.create_task(sandbox.parse(f"Document {i}.".encode(), "a.txt")) for i in range(20)),
    ]
    await until(mark.is_symlink)
    pid = int(mark.readlink().name)
    mark.unlink()
    warden.kill()
    hung, *documents = await asyncio.gather(*tasks)
    assert isinstance(hung, DocumentRejected)
    assert hung.reason == Reason.PARSER_TIMEOUT
    assert [d.text for d in documents] == [f"Document {i}." for i in range(20)]  # type: ignore[union-attr]
    await until(lambda: gone(pid))


async def test_nothing_outlives_a_worker_that_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    program = textwrap.dedent(f"""
        import asyncio
        from redoubt.ingest.parse.sandbox import Sandbox
        from redoubt.settings import IngestSettings

        async def main():
            async with Sandbox(IngestSettings(), parser="{HOSTILE}") as sandbox:
                await sandbox.parse(b"hang {mark}", "a.txt")

        asyncio.run(main())
    """)
    worker = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(HERE)})
    await until(mark.is_symlink, 60)
    family = [p.pid for p in psutil.Process(worker.pid).children(recursive=True)]
    assert int(mark.readlink().name) in family
    assert len(family) == 3  # warden, guard, parser
    worker.kill()
    worker.wait()
    await until(lambda: all(map(gone, family)))


async def test_no_descriptor_and_no_process_is_left_by_a_document(sandbox: Sandbox) -> None:
    async def some() -> tuple[int, int]:
        for order in ("Well.", "abort", "Well.", "reject x"):
            with pytest.raises(DocumentRejected) if order != "Well." else Nothing():
                await sandbox.parse(order.encode(), "a.txt")
        [warden] = _wardens()
        await until(lambda: not warden.children())
        return psutil.Process().num_fds(), warden.num_fds()

    first = await some()
    assert [await some() for _ in range(5)] == [first] * 5


class Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


async def test_a_large_document_passes_both_ways() -> None:
    text = "word " * 3_000_000
    async with Sandbox(IngestSettings()) as sandbox:
        assert (await sandbox.parse(text.encode(), "a.txt")).text == text.strip()


async def test_text_beyond_the_limit_is_too_large() -> None:
    async with Sandbox(IngestSettings(max_text_chars=1000)) as sandbox:
        with pytest.raises(DocumentRejected) as refused:
            await sandbox.parse(b"word " * 1000, "a.txt")
    assert refused.value.reason == Reason.TOO_LARGE


@pytest.mark.parametrize("name", ["a\udcff\n.txt", "x" * 10_000 + ".txt", "../../etc/a.txt", "ü\u202e.txt"])
async def test_any_name_is_carried(sandbox: Sandbox, name: str) -> None:
    assert (await sandbox.parse(b"Well.", name)).text == "Well."


async def test_a_small_document_takes_milliseconds() -> None:
    data = (SAMPLES / "public" / "dialysis-unit.md").read_bytes()
    async with Sandbox(IngestSettings()) as sandbox:
        times = []
        for _ in range(40):
            start = time.perf_counter()
            await sandbox.parse(data, "a.md")
            times.append(time.perf_counter() - start)
    assert statistics.median(times) < 0.5


async def test_no_more_parsers_run_than_the_settings_allow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    before = _wardens()
    async with Sandbox(IngestSettings(concurrency=2, parse_timeout_s=30), parser=HOSTILE) as sandbox:
        marks = [tmp_path / str(i) for i in range(4)]
        tasks = [asyncio.create_task(sandbox.parse(f"hang {m}".encode(), "a.txt")) for m in marks]
        await until(lambda: sum(m.is_symlink() for m in marks) == 2)
        tasks[0].cancel()
        await until(lambda: sum(m.is_symlink() for m in marks) == 3)
        [warden] = [p for p in _wardens() if p not in before]
        await until(lambda: len(warden.children()) == 2)
        for task in tasks:
            task.cancel()


async def test_a_parser_that_cannot_be_loaded_is_told_at_the_start() -> None:
    from redoubt.errors import Environment

    with pytest.raises(Environment):
        async with Sandbox(IngestSettings(), parser="no_such_module:parse"):
            pass
    assert signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN
