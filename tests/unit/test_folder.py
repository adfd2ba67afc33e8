"""A folder as a source: what it lists, what it refuses, and that no change escapes it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from redoubt.errors import DocumentRejected
from redoubt.ingest.sources.folder import Folder, FolderConfig
from redoubt.ingest.sources.protocol import Vanished


def folder(root: Path, *, sidecars: bool = True, max_bytes: int = 100_000_000) -> Folder:
    return Folder(FolderConfig(root=root, sidecars=sidecars), max_bytes)


def paths(root: Path) -> list[str]:
    return [entry.path for entry in folder(root).list().entries]


def reason(source: Folder, path: str) -> str:
    with pytest.raises(DocumentRejected) as caught:
        source.read(path)
    return caught.value.reason


def test_documents_only(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.md").write_text("a")
    (tmp_path / "d/a.md.meta.toml").write_text("groups = []")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("x")
    (tmp_path / "~$a.docx").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "again").symlink_to(tmp_path / "d")
    assert paths(tmp_path) == ["d/a.md"]


def test_links_lead_within_or_are_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for place in (inside, outside):
        place.mkdir()
        (place / "a.txt").write_text(place.name)
    (inside / "file").symlink_to(outside / "a.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "own").symlink_to(inside / "a.txt")
    (tmp_path / "inner").mkdir()  # a sibling whose name begins like the folder's
    (tmp_path / "inner/b.txt").write_text("b")
    (inside / "sibling").symlink_to(tmp_path / "inner/b.txt")
    source = folder(inside)
    assert paths(inside) == ["a.txt", "file", "folder", "own", "sibling"]
    assert source.read("own").data == b"in"
    for path in ("file", "folder", "sibling"):
        assert reason(source, path) == "outside-source"


def test_a_file_exchanged_for_a_link_after_the_listing(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret").write_text("s")
    (inside / "a").write_text("a")
    source = folder(inside)
    assert [entry.path for entry in source.list().entries] == ["a"]
    (inside / "a").unlink()
    (inside / "a").symlink_to(tmp_path / "secret")
    assert reason(source, "a") == "outside-source"
    assert reason(source, "../secret") == "outside-source"


def test_too_large_is_told_without_reading(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(200_000_000)
    before = os.times().system
    assert reason(folder(tmp_path), "big") == "too-large"
    assert os.times().system - before < 0.05


def test_a_file_that_keeps_changing_is_not_read_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_bytes(b"x" * 2_000)
    look = os.fstat

    def look_and_grow(descriptor: int) -> os.stat_result:
        found = look(descriptor)
        with (tmp_path / "log").open("ab") as file:  # a writer that is always at it, without leaving it to chance
            file.write(b"y")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", look_and_grow)
        assert reason(folder(tmp_path), "log") == "unreadable"
    assert len(folder(tmp_path).read("log").data) == (tmp_path / "log").stat().st_size


def test_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    source = folder(tmp_path)
    for path in ("b", "a/below-a-file", "d/e"):
        with pytest.raises(Vanished):
            source.read(path)
    assert source.sidecar("b") is None


def test_a_change_right_after_reading_shows(tmp_path: Path) -> None:
    """Also within one tick of the file system's clock, and at the same size."""
    source = folder(tmp_path)
    (tmp_path / "a.meta.toml").write_text("groups = []")
    for number in range(10):
        (tmp_path / "a").write_text(f"{number:05}")
        content = source.read("a")
        (tmp_path / "a").write_text(f"{number:05}"[::-1] + "")
        os.utime(tmp_path / "a")
        (entry,) = source.list().entries
        assert entry.stamp != content.entry.stamp
        (tmp_path / "a.meta.toml").write_text("groups = ['a']")
        (listed,) = source.list().entries
        source.sidecar("a")
        (tmp_path / "a.meta.toml").write_text("groups = ['b']")
        (after,) = source.list().entries
        assert after.sidecar_stamp != listed.sidecar_stamp


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that the system does not let us read; tests run as root may read anything, so it is scripted."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open/a").write_text("a")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed/b").write_text("b")
    real = os.scandir

    def scandir(path: bytes) -> "os._ScandirIterator[bytes]":
        if path.endswith(b"closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return tmp_path


def test_what_the_system_hides_is_unseen_and_not_gone(closed: Path) -> None:
    listing = folder(closed).list()
    assert [entry.path for entry in listing.entries] == ["open/a"]
    assert listing.unseen == ("closed",)


def test_the_folder_itself_missing_or_hidden_is_an_error(tmp_path: Path, closed: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder(tmp_path / "missing").list()
    with pytest.raises(PermissionError):
        folder(closed / "closed").list()
    with pytest.raises(NotADirectoryError):
        folder(closed / "open/a").list()


def test_a_sidecar_that_is_there_is_read_or_told_about(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "elsewhere").write_text("groups = ['everyone']")
    (inside / "linked.meta.toml").symlink_to(tmp_path / "elsewhere")
    (inside / "folder.meta.toml").mkdir()
    (inside / "long.meta.toml").write_text("groups = ['everyone']\n" + "#" * 70_000)
    (inside / "good.meta.toml").write_text("groups = ['hr']")
    source = folder(inside)
    for path in ("linked", "folder", "long"):
        with pytest.raises(DocumentRejected):
            source.sidecar(path)
    assert source.sidecar("good") == b"groups = ['hr']"
    assert folder(inside, sidecars=False).sidecar("good") is None


def test_times_that_no_calendar_has(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    for seconds in (-62_135_596_801, 2**40):
        os.utime(tmp_path / "a", (seconds, seconds))
        (entry,) = folder(tmp_path).list().entries
        assert entry.changed_at.tzinfo is not None


names = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and not name.startswith(b".") and not name.startswith(b"~$")
    and not name.endswith(b".meta.toml")
)  # fmt: skip


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, names)
def test_any_name_is_listed_printable_and_found_again(tmp_path: Path, name: bytes, parent: bytes) -> None:
    file = tmp_path / os.fsdecode(parent) / os.fsdecode(name)
    file.parent.mkdir()
    file.write_bytes(name)
    try:
        source = folder(tmp_path)
        (entry,) = source.list().entries
        entry.path.encode()
        assert source.read(entry.path).data == name
        assert source.list([entry.path]) == source.list()
    finally:
        file.unlink()
        file.parent.rmdir()


@pytest.mark.anyio
async def test_touched(tmp_path: Path) -> None:
    """Names as they change; all of it, where the watch was blind for a moment."""
    root = tmp_path / "in"
    root.mkdir()
    events = folder(root).touched()

    async def until(path: str, act: object) -> None:
        """Act again and again: when the watch begins cannot be seen from outside."""

        async def acting() -> None:
            while True:
                act()  # type: ignore[operator]
                await asyncio.sleep(0.2)

        acted = asyncio.create_task(acting())
        try:
            async with asyncio.timeout(10):
                async for touched in events:
                    if path in touched:
                        return
        finally:
            acted.cancel()

    await until("a.txt", lambda: (root / "a.txt").write_text("a"))
    await until("b.txt", lambda: (root / "b.txt.meta.toml").write_text("a"))
    odd = os.fsencode(root) + b"/\xff.txt"
    await until(".", lambda: Path(os.fsdecode(odd)).write_text("odd"))
    await until("c.txt", lambda: (root / "c.txt").write_text("c"))
    root.rename(tmp_path / "old")
    root.mkdir()
    await until(".", lambda: None)
    await until("d.txt", lambda: (root / "d.txt").write_text("d"))
