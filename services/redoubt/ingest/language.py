"""The Postgres text-search configuration of a document: by what it says of itself, else by what it reads like."""

from functools import cache
from typing import Any

from redoubt.model import ParsedDocument

SIMPLE = "simple"  # no stemming, no stop words: right for any language, best for none

# ISO 639-1 to the configurations that PostgreSQL 17 ships.
CONFIGS = {
    "ar": "arabic",
    "hy": "armenian",
    "eu": "basque",
    "ca": "catalan",
    "da": "danish",
    "nl": "dutch",
    "en": "english",
    "fi": "finnish",
    "fr": "french",
    "de": "german",
    "el": "greek",
    "hi": "hindi",
    "hu": "hungarian",
    "id": "indonesian",
    "ga": "irish",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nb": "norwegian",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "es": "spanish",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
# Told apart offline. Those with a configuration, and those that would be mistaken for one of them.
_CANDIDATES = [
    "ar",
    "ca",
    "cs",
    "da",
    "de",
    "el",
    "en",
    "es",
    "et",
    "eu",
    "fa",
    "fi",
    "fr",
    "ga",
    "he",
    "hi",
    "hr",
    "hu",
    "id",
    "it",
    "ja",
    "ko",
    "lt",
    "lv",
    "ne",
    "nl",
    "no",
    "pl",
    "pt",
    "ro",
    "ru",
    "sk",
    "sl",
    "sr",
    "sv",
    "ta",
    "tr",
    "uk",
    "vi",
    "zh",
]
_SAMPLE = 3000  # characters
_MIN_LETTERS = 60
_MIN_CONFIDENCE = 0.9


def text_search_config(parsed: ParsedDocument, override: str | None = None) -> str:
    """A configuration's name; `override` is a source's rule: a configuration's name, or an ISO 639-1 code."""
    for said in (override, parsed.language):
        if name := (said or "").strip().lower():
            return name if name in CONFIGS.values() else CONFIGS.get(name[:2], SIMPLE)
    return CONFIGS.get(detect(parsed.text), SIMPLE)


def load() -> None:
    """Load the model, about a second, before the first document has to wait for it."""
    _identifier()


def detect(text: str) -> str:
    """The ISO 639-1 code that a text reads like; empty if that cannot be told with confidence."""
    middle = len(text) // 2
    sample = text if len(text) <= _SAMPLE else text[: _SAMPLE // 2] + text[middle : middle + _SAMPLE // 2]
    if sum(map(str.isalpha, sample)) < _MIN_LETTERS:
        return ""
    code, confidence = _identifier().classify(sample)
    return str(code) if confidence >= _MIN_CONFIDENCE else ""


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_CANDIDATES)
    return identifier
