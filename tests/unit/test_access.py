"""Who may read: the first pattern, or the sidecar; every doubt means nobody."""

import pytest
from pydantic import ValidationError

from redoubt.ingest.access import NO_SIDECAR, Sidecar, form, judge, language, read_sidecar
from redoubt.ingest.sources.folder import FolderConfig, matches

CONFIG = FolderConfig.model_validate(
    {
        "root": "/x",
        "acl": [
            {"pattern": "hr/public/**", "groups": ["everyone"]},
            {"pattern": "hr/**", "groups": ["hr", "board", "hr"]},
            {"pattern": "**/*.md", "groups": ["staff"]},
            {"pattern": "void/**", "groups": []},
        ],
        "language": [{"pattern": "de/**", "config": "german"}],
    }
)


@pytest.mark.parametrize(
    ("path", "groups"),
    [
        ("hr/public/a.txt", ("everyone",)),
        ("hr/a.txt", ("board", "hr")),
        ("a.md", ("staff",)),
        ("deep/er/a.md", ("staff",)),
        ("a.txt", None),
        ("void/a.txt", None),
        ("hr", None),
    ],
)
def test_the_first_pattern_that_matches_decides(path: str, groups: tuple[str, ...] | None) -> None:
    assert judge(path, CONFIG, NO_SIDECAR) == groups


def test_a_sidecar_replaces_the_pattern() -> None:
    assert judge("hr/a.txt", CONFIG, Sidecar(groups=("legal",))) == ("legal",)
    assert judge("hr/a.txt", CONFIG, Sidecar(title="only a title")) == ("board", "hr")


def test_an_empty_list_in_a_sidecar_means_nobody() -> None:
    assert judge("hr/public/a.txt", CONFIG, read_sidecar(b"groups = []")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"groups = 'everyone'",
        b"groups = [1]",
        b"groups = ['']",
        b"groups = [' hr']",
        b"groups = ['hr'",
        b"\xff\xfe",
        b"group = ['everyone']",
        b"as_of = 'the other day'",
        b"title = 3",
        b"title = ' '",
        b'title = "two\\nlines"',
        b'groups = ["h\\u0000r"]',
        b'groups = ["every\\u200bone"]',
        b"",
        b" \n",
    ],
)
def test_a_malformed_sidecar_means_nobody(data: bytes) -> None:
    sidecar = read_sidecar(data)
    assert sidecar.problem
    assert judge("hr/public/a.txt", CONFIG, sidecar) is None


def test_a_sidecar_says_date_title_and_language() -> None:
    sidecar = read_sidecar(b"as_of = 2025-03-01\ntitle = 'T'\nlanguage = 'de'\n")
    assert sidecar.as_of is not None
    assert (sidecar.as_of.isoformat(), sidecar.title, sidecar.language) == ("2025-03-01T00:00:00+00:00", "T", "de")
    assert sidecar.groups is None


@pytest.mark.parametrize("groups", [[""], [" hr"], ["h\nr"], ["h\x00r"]])
def test_a_source_file_with_a_group_that_nobody_can_be_in_is_refused(groups: list[str]) -> None:
    with pytest.raises(ValidationError):
        FolderConfig.model_validate({"root": "/x", "acl": [{"pattern": "**", "groups": groups}]})


def test_the_form_changes_with_what_is_written_down_and_not_with_who_may_read() -> None:
    plain = form("a", CONFIG, NO_SIDECAR)
    assert plain == form("a", CONFIG, Sidecar(groups=("hr",)))
    others = {
        form("a", CONFIG, Sidecar(title="T")),
        form("a", CONFIG, Sidecar(language="de")),
        form("a", CONFIG, read_sidecar(b"as_of = 2025-03-01")),
        form("de/a", CONFIG, NO_SIDECAR),
    }
    assert plain not in others
    assert len(others) == 4


def test_language_by_sidecar_then_pattern() -> None:
    assert language("de/a", CONFIG, NO_SIDECAR) == "german"
    assert language("de/a", CONFIG, Sidecar(language="en")) == "en"
    assert language("a", CONFIG, NO_SIDECAR) is None


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a.md", "**/*", True),
        ("d/e/a.md", "**/*", True),
        ("d/a.md", "*.md", False),
        ("d/a.md", "d/*.md", True),
        ("d/e/a.md", "d/*.md", False),
        ("d/.git/config", "**/.*/**", True),
        (".env", "**/.*", True),
        ("public", "public/**", False),
        ("publicity/a", "public/**", False),
        ("a[1].md", "a[[]1].md", True),
        ("a.md", "!b.md", False),
        ("!b.md", "!b.md", True),
    ],
)
def test_globs(path: str, pattern: str, *, expected: bool) -> None:
    assert matches(path, pattern) is expected
