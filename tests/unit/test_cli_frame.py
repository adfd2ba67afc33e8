"""What every command shares: one result on standard output, errors in four parts, documented exit codes."""

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from redoubt import errors
from redoubt.cli import exits, main, output
from redoubt.cli.exits import Exit


@dataclass(frozen=True)
class Row:
    name: str
    groups: frozenset[str]
    seen_at: datetime | None


ROW = Row("hr", frozenset({"staff", "board"}), datetime(2026, 3, 1, 12, tzinfo=UTC))


def tree(root: type[errors.RedoubtError]) -> list[type[errors.RedoubtError]]:
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


def redoubt(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redoubt.cli.main", *arguments],
        env={"REDOUBT_HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        check=False,
        text=True,
    )


def test_rows_are_a_json_array_with_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    output.writer(True).rows([ROW], {"name": "source"})
    assert json.loads(capsys.readouterr().out) == [
        {"name": "hr", "groups": ["board", "staff"], "seen_at": "2026-03-01T12:00:00Z"}
    ]


def test_rows_for_eyes_show_the_chosen_columns_without_colour_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.writer(False).rows([ROW], {"name": "source", "groups": "readable by"})
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()] == [["source", "readable", "by"], ["hr", "board,", "staff"]]
    assert "\x1b" not in out


def test_a_value_in_brackets_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.writer(False).rows([{"path": "[bold]x[/bold].txt"}], {"path": "path"})
    output.writer(False).show("[red]y[/red]")
    assert "[bold]x[/bold].txt" in (out := capsys.readouterr().out)
    assert "[red]y[/red]" in out


def test_nothing_is_said_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.writer(False).rows([], {"name": "source"}, empty="no source yet")
    output.writer(True).rows([], {"name": "source"}, empty="no source yet")
    assert capsys.readouterr().out == "no source yet\n[]\n"


def test_notes_and_pictures_are_never_part_of_a_json_result(capsys: pytest.CaptureFixture[str]) -> None:
    out = output.writer(True)
    out.note("on the way")
    out.show("only for eyes")
    out.record({"id": UUID(int=1), "home": Path("/x")})
    said = capsys.readouterr()
    assert json.loads(said.out) == {"id": "00000000-0000-0000-0000-000000000001", "home": "/x"}
    assert said.err == "on the way\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0.0404, "40 ms"),
        (12.34, "12.3 s"),
        (200, "3 min 20 s"),
        (18_120, "5 h 02 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_read_well(seconds: float | None, shown: str) -> None:
    assert output.duration(seconds) == shown


@pytest.mark.parametrize("kind", tree(errors.RedoubtError))
def test_every_error_ends_in_a_documented_exit_code(kind: type[errors.RedoubtError]) -> None:
    assert Exit(kind.exit_code)
    assert f"| {kind.exit_code} |" in (exits.__doc__ or "")


def test_an_error_is_told_in_four_parts(tmp_path: Path) -> None:
    done = redoubt("status", "--json", home=tmp_path)
    assert done.returncode == Exit.NOT_FOUND
    assert done.stdout == ""
    error = json.loads(done.stderr)["error"]
    assert error["reference"] == "not-found"
    assert str(tmp_path) in error["what"]
    assert "redoubt up" in error["fix"]
    plain = redoubt("status", home=tmp_path)
    assert plain.returncode == Exit.NOT_FOUND
    assert plain.stderr.startswith("error (not-found): ")
    assert "\n  fix  " in plain.stderr


def test_a_wrong_option_is_bad_input_also_as_json(tmp_path: Path) -> None:
    assert redoubt("status", "--nonsense", home=tmp_path).returncode == Exit.INPUT
    done = redoubt("status", "--nonsense", "--json", home=tmp_path)
    assert done.returncode == Exit.INPUT
    assert "--nonsense" in json.loads(done.stderr)["error"]["what"]


def test_a_defect_is_short_for_eyes_and_its_values_are_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "".join(["pat", "ient"])

    def burst(*_: object) -> None:
        raise ValueError(secret)

    monkeypatch.setenv("REDOUBT_HOME", str(tmp_path))
    monkeypatch.setattr(main, "assemble", burst)
    monkeypatch.setattr(sys, "argv", ["redoubt", "status"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == Exit.UNEXPECTED
    log = tmp_path / "log" / "cli.log"
    shown = capsys.readouterr().err
    assert "unexpected ValueError" in shown and str(log) in shown
    assert "ValueError" in log.read_text() and "in burst" in log.read_text()
    assert secret not in shown + log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_an_interruption_has_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "assemble", interrupted)
    monkeypatch.setattr(sys, "argv", ["redoubt", "status"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == Exit.INTERRUPTED


def test_help_names_every_command_and_teaches_by_example(tmp_path: Path) -> None:
    shown = redoubt("--help", home=tmp_path).stdout
    for name in (*main._VERBS, *main._NOUNS):
        assert f" {name} " in shown
    for verb in ("up", "down", "status", "logs", "demo"):
        assert "Examples" in redoubt(verb, "--help", home=tmp_path).stdout
