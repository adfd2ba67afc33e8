"""Disagreements: found where two documents differ on one thing, silent where anything tells them apart."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from redoubt.gateway.conflict import find
from redoubt.model import Citation, Span


def citation(number: int, quote: str, *, document: int | None = None, version: int = 1, year: int = 2024) -> Citation:
    id_ = UUID(int=document or number)
    return Citation(
        number, id_, version, "docs", f"{id_.int}.md", "Notes", quote, Span(0, len(quote)), None, (),
        datetime(year, 1, 1, tzinfo=UTC), 0.9,
    )  # fmt: skip


PARKING = "How much does a day ticket for the car park cost?"


@pytest.mark.parametrize(
    ("question", "one", "other", "kind", "told"),
    [
        (PARKING, "A day ticket for the car park costs 9.50 euros.", "A day ticket for the car park costs £12.",
         None, ()),
        (PARKING, "A day ticket for the car park costs 9.50 euros.", "A day ticket for the car park costs 12 euros.",
         "number", ("12 euros", "9.50 euros")),
        ("Was kostet eine Stunde Parken?", "Eine Stunde Parken kostet 1,80 Euro.", "Eine Stunde Parken kostet 2,20 €.",
         "number", ("2,20 €", "1,80 Euro")),
        ("How many dialysis stations are there?", "The unit has 14 dialysis stations in two rooms.",
         "The unit has 18 dialysis stations.", "number", ("18", "14")),
        ("When does the canteen open?", "The canteen opens at 7:30.", "The canteen opens at 08:00.",
         "date", ("08:00", "7:30")),
        ("When does the survey open?", "The survey opens on 14 September 2026.",
         "The survey opens on 21 September 2026.", "date", ("21 September 2026", "14 September 2026")),
        ("May I wear my uniform on the bus?", "Uniforms may not be worn on the bus.",
         "Uniforms may be worn on the bus.", "negation",
         ("Uniforms may be worn on the bus.", "Uniforms may not be worn on the bus.")),
        ("Where is the assembly point of the laundry?", "The assembly point of the laundry is the quay.",
         "The assembly point of the laundry is the upper car park.", "name", ("the upper car park", "the quay")),
    ],
)  # fmt: skip
def test_found_the_newer_first(question: str, one: str, other: str, kind: str | None, told: tuple[str, ...]) -> None:
    found = find(question, [citation(1, one, year=2024), citation(2, other, year=2025)])
    if kind is None:  # euros and pounds are not compared
        assert found == []
        return
    assert [(d.type, d.citations, d.values) for d in found] == [(kind, (2, 1), told)]


def test_versions_of_one_document_disagree_too() -> None:
    one = citation(1, "A day ticket for the car park costs 9 euros.", document=7, version=1)
    two = citation(2, "A day ticket for the car park costs 12 euros.", document=7, version=2)
    assert [found.citations for found in find(PARKING, [one, two])] == [(2, 1)]


def test_one_document_does_not_contradict_itself() -> None:
    one = citation(1, "A day ticket for the car park costs 9 euros.", document=7)
    two = citation(2, "A day ticket for the car park costs 12 euros.", document=7)
    assert find(PARKING, [one, two]) == []


@pytest.mark.parametrize(
    ("question", "one", "other"),
    [
        # the same value, spelled otherwise
        ("When does the canteen open?", "The canteen opens at 7:30.", "The canteen opens at 07:30 AM."),
        ("How long is it kept?", "Property is kept for 2 hours.", "Property is kept for 120 minutes."),
        ("When was the ward opened?", "The ward was opened in 2015.", "The ward was opened on 9 September 2015."),
        # another site, weekday, year, unit, subject
        (PARKING, "A day ticket for the car park at Tallow Hill costs 9 euros.",
         "A day ticket for the car park at Harbour Street costs 12 euros."),
        ("When is the clinic open?", "The clinic opens at 9:00 on Mondays.", "The clinic opens at 13:00 on Fridays."),
        ("What was the deficit?", "In 2023 the deficit was 4 million euros.",
         "In 2024 the deficit was 5 million euros."),
        ("How long is a shift?", "A shift takes 8 hours.", "A shift costs 300 euros."),
        (PARKING, "A day ticket for the car park costs 9 euros.",
         "A week ticket for the swimming pool costs 30 euros."),
        # rows of two tables
        ("price of scan B", "Service: scan A; Price: 310 euros", "Service: scan B; Price: 380 euros"),
        # alike, but not what was asked
        ("Who cleans the windows?", "A day ticket for the car park costs 9 euros.",
         "A day ticket for the car park costs 12 euros."),
    ],
)  # fmt: skip
def test_silent_where_something_tells_them_apart(question: str, one: str, other: str) -> None:
    assert find(question, [citation(1, one), citation(2, other)]) == []


def test_the_subject_is_written_for_people() -> None:
    quotes = ("A day ticket for the car park costs 9 euros.", "A day ticket for the car park costs 12 euros.")
    [found] = find(PARKING, [citation(number, quote) for number, quote in enumerate(quotes, 1)])
    assert found.subject == "day ticket car park costs"
