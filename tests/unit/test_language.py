"""The text-search configuration: what a rule says, else the document, else what it reads like."""

import pytest

from redoubt.ingest.language import CONFIGS, text_search_config
from redoubt.model import ParsedDocument

ENGLISH = "The ward is open from nine to five, and the night nurse answers calls at all other hours of the day."
GERMAN = "Die Station ist von neun bis fünf geöffnet, und die Nachtschwester nimmt zu allen anderen Zeiten Anrufe an."
FRENCH = "Le service est ouvert de neuf heures à dix-sept heures, et l'infirmière de nuit répond aux autres heures."
CZECH = "Oddělení je otevřeno od devíti do pěti hodin a noční sestra přijímá hovory ve všech ostatních hodinách."
JAPANESE = "病棟は九時から五時まで開いており、それ以外の時間は夜勤の看護師が電話に応答します。" * 2


def document(text: str, language: str | None = None) -> ParsedDocument:
    return ParsedDocument(text, "T", (), None, language)


@pytest.mark.parametrize(
    ("text", "config"),
    [
        (ENGLISH, "english"),
        (GERMAN, "german"),
        (FRENCH, "french"),
        (CZECH, "simple"),
        (JAPANESE, "simple"),
        ("OK 12", "simple"),
        ("a: 1; b: 2\n" * 50, "simple"),
        ("", "simple"),
    ],
)
def test_a_text_is_told_by_what_it_reads_like(text: str, config: str) -> None:
    assert text_search_config(document(text)) == config


def test_what_the_document_says_comes_first_and_a_rule_before_it() -> None:
    assert text_search_config(document(ENGLISH, "de")) == "german"
    assert text_search_config(document(ENGLISH, "de"), "fr") == "french"
    assert text_search_config(document(ENGLISH, "de"), "simple") == "simple"
    assert text_search_config(document(ENGLISH, "de"), " Spanish ") == "spanish"
    assert text_search_config(document(ENGLISH, "ja")) == "simple"
    assert text_search_config(document(ENGLISH), "de-AT") == "german"


@pytest.mark.anyio
async def test_postgres_has_every_configuration(database: object) -> None:
    import psycopg

    async with await psycopg.AsyncConnection.connect(database.dsn_for(database.admin_role)) as connection:  # type: ignore[attr-defined]
        found = await (await connection.execute("SELECT cfgname FROM pg_ts_config")).fetchall()
    assert set(CONFIGS.values()) | {"simple"} <= {name for (name,) in found}
