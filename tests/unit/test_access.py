"""Who may read: the first pattern, or the sidecar; every doubt means nobody."""

import pytest

from redoubt.ingest.access import NO_SIDECAR, Sidecar, judge, language, read_sidecar
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
    ],
)
def test_globs(path: str, pattern: str, *, expected: bool) -> None:
    assert matches(path, pattern) is expected
