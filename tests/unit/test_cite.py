"""Lexical support: what must stand in the cited span, in either language and any spelling."""

import pytest

from redoubt.gateway.cite import COVERAGE, check

OPENS = "The cafeteria opens at 07:30."


@pytest.mark.parametrize(
    ("sentence", "cited"),
    [
        ("The cafeteria opens at 7:30", OPENS),
        ("The cafeteria opens at 7:30 AM.", OPENS),
        ("Die Kantine öffnet um 7.30 Uhr.", "Die Kantine öffnet um 07:30 Uhr."),
        ("The site has 1000 beds.", "The site has 1,000 beds."),
        ("Das Haus hat 1000 Betten.", "Das Haus hat 1.000 Betten."),
        ("Eine Stunde kostet 2,20 Euro.", "Eine Stunde kostet 2,2 €."),
        ("Results come within 2 hours.", "Results come within 120 minutes."),
        ("Three visitors may come.", "3 visitors may come."),
        ("The rules apply from 2 March 2026.", "The rules apply from 2026-03-02."),
        ("The rules apply from March 2026.", "The rules apply from 2 March 2026."),
        ("Die Regeln gelten ab dem 2. März 2026.", "Die Regeln gelten ab dem 02.03.2026."),
        ("Children may not visit Tallow Hill.", "Children may not visit the wards of Tallow Hill."),
        ("The desk is closed on Fridays.", "On Friday the desk is closed."),
    ],
)
def test_supported(sentence: str, cited: str) -> None:
    found = check(sentence, cited)
    assert found.supported, found


@pytest.mark.parametrize(
    ("sentence", "cited", "missing"),
    [
        ("The cafeteria opens at 12:30 AM on Fridays", OPENS, "12:30 AM"),
        ("The cafeteria opens at 12:30 AM on Fridays", OPENS, "Fridays"),
        ("The cafeteria opens at 7:30 PM", OPENS, "7:30 PM"),
        ("The site has 1,100 beds.", "The site has 1,000 beds.", "1,100"),
        ("A visit takes 30 minutes.", "A visit takes 30 days.", "30 minutes"),
        ("The rules apply from 3 March 2026.", "The rules apply from March 2026.", "3 March 2026"),
        ("The car park at Tallow Hill is free.", "The car park at Harbour Street is free.", "Tallow Hill"),
        ("Children may visit.", "Children may not visit.", "negation"),
        ("Children may not visit.", "Children may visit.", "negation"),
        ("Kinder dürfen nicht mitkommen.", "Kinder dürfen mitkommen.", "negation"),
        ("Hunde sind verboten.", "Hunde sind erlaubt.", "negation"),
    ],
)
def test_not_supported(sentence: str, cited: str, missing: str) -> None:
    found = check(sentence, cited)
    assert not found.supported
    assert missing in found.missing


def test_a_negation_elsewhere_in_the_span_is_no_negation_of_this() -> None:
    cited = "Flowers are not allowed in intensive care. Visiting on the general wards is from 11:00 to 20:00."
    assert check("Visiting on the general wards is from 11:00 to 20:00.", cited).supported


def test_terms_must_be_covered_to_the_set_share() -> None:
    cited = "alpha beta gamma"
    assert check("alpha beta gamma delta", cited).coverage == pytest.approx(0.75)
    assert check("alpha beta gamma delta", cited).supported
    found = check("alpha delta epsilon zeta", cited)
    assert found.coverage < COVERAGE
    assert not found.supported


def test_what_says_nothing_is_supported_by_anything() -> None:
    assert check("", OPENS).supported
    assert check("It is.", OPENS).supported


def test_nothing_is_supported_by_an_empty_span() -> None:
    assert not check("The cafeteria opens early.", "").supported
