"""Words that carry meaning, folded so that two spellings of one word compare equal (English and German).

Everything in the gateway that decides by words uses this one folding. It is not Postgres' analysis: the
store's own scores come from there; here only two texts that are both at hand are compared.
"""

import re
from functools import lru_cache
from typing import Literal

Language = Literal["en", "de"]

WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?(?:-[^\W_]+)*")
_PART = re.compile(r"[^\W_]+")

_ENGLISH = frozenset(
    """a about above after again against all also am an and any are as at be because been before being below between
    both but by can could did do does doing done down during each either else ever every few for from further get gets
    had has have having he her here hers him his how i if in into is it its itself just let like made make many may me
    might more most much must my no nor not of off on once one only or other our ours out over own per please same
    shall she should since so some such than that the their theirs them then there these they this those through thus
    to too under until up upon us use used using very via was we were what when where whether which while who whom
    whose why will with within without would yes yet you your yours tell know give need want""".split()  # noqa: SIM905
)
_GERMAN = frozenset(
    """aber alle allem allen aller alles als also am an ander andere anderen anderer anderes auch auf aus bei beim bin
    bis bist da dabei damit dann das dass dazu dein deine dem den denn der des dich die dies diese diesem diesen dieser
    dieses dir doch dort du durch ein eine einem einen einer eines er es etwas euch euer für gegen gibt hab habe haben
    hat hatte hatten hier hin ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ist ja jede jedem jeden jeder jedes
    jetzt kann kannst kein keine keinem keinen keiner können könnte man mehr mein meine mich mir mit muss musste müssen
    nach nicht noch nun nur ob oder ohne sehr sein seine seinem seinen seiner seit sich sie sind so soll sollen sollte
    sondern sonst um und uns unser unsere unter vom von vor wann war waren warum was weil welche welchem welchen
    welcher welches wenn wer werden wie wieder will wir wird wo wohin wurde wurden während zu zum zur über bitte dürfen
    darf lange viel viele""".split()  # noqa: SIM905
)
# Told apart by words that only one of the two has; "die", "war", "was" and the like would mislead.
_ONLY_ENGLISH = _ENGLISH - _GERMAN - {"an", "her", "must", "us"}
_ONLY_GERMAN = _GERMAN - _ENGLISH - {"die", "war", "man", "hat", "den", "bin", "mir", "dies", "euch"}
_UMLAUT = str.maketrans({"ä": "a", "ö": "o", "ü": "u", "ß": "ss", "’": "'"})


def language(text: str) -> Language:
    """German if its small words outnumber the English ones or an umlaut decides, else English."""
    words = text.lower().split()
    german = sum(word.strip(".,;:!?()\"'") in _ONLY_GERMAN for word in words)
    english = sum(word.strip(".,;:!?()\"'") in _ONLY_ENGLISH for word in words)
    if german == english:
        return "de" if any(c in "äöüßÄÖÜ" for c in text) else "en"
    return "de" if german > english else "en"


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """One word as it is compared: lower case, no umlauts, endings of both languages cut with care."""
    word = word.lower().translate(_UMLAUT).removesuffix("'s")
    if len(word) <= 3 or any(c.isdigit() for c in word):
        return word
    for ending, keep, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= keep:
            word = word[: len(word) - len(ending)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word[-1] in "ey" else word


_ASKING = re.compile(
    r"\b(?:how (?:long|often|old|soon|far|big|large|late|early|high|fast|tall|deep|quickly)|at (?:most|least)|"
    r"what time|wie (?:oft|lange|hoch|alt|weit|groß|spät|früh|schnell|teuer)|um wie viel uhr|(?:up )?to what amount)\b",
    re.IGNORECASE,
)

# Longest first; (ending, letters that must remain, what takes its place).
_ENDINGS = (
    ("ations", 3, "at"), ("ation", 3, "at"), ("ements", 4, ""), ("ement", 4, ""), ("ingly", 4, ""), ("ities", 3, ""),
    ("ions", 4, ""), ("ings", 3, ""), ("ally", 4, ""), ("ment", 4, ""), ("ness", 4, ""), ("ern", 4, ""),
    ("ies", 3, ""), ("ied", 3, ""), ("ity", 4, ""), ("ion", 4, ""), ("ing", 3, ""), ("est", 4, ""), ("ers", 4, ""),
    ("sses", 2, "ss"), ("em", 4, ""), ("en", 3, ""), ("er", 4, ""), ("es", 3, ""), ("ed", 3, ""), ("ly", 4, ""),
    ("st", 5, "st"), ("ss", 2, "ss"), ("us", 2, "us"), ("is", 3, "is"), ("s", 3, ""), ("n", 5, "n"), ("e", 3, ""),
)  # fmt: skip


def stopword(word: str, of: Language) -> bool:
    """Whether a word says nothing about the subject, in this language."""
    return word.lower().replace("’", "'") in (_GERMAN if of == "de" else _ENGLISH)


def terms(text: str, of: Language | None = None) -> list[str]:
    """The folded words of a text that are no stop words, in order, compounds with hyphens in parts."""
    of = of or language(text)
    found: list[str] = []
    for match in WORD.finditer(text):
        parts = _PART.findall(match.group().replace("'s", "").replace("’s", "")) if "-" in match.group() else None
        found.extend(
            fold(word)
            for word in parts or (match.group(),)
            if not stopword(word, of) and (len(word) > 1 or word.isdigit())
        )
    return found


def asked(question: str, of: Language | None = None) -> list[str]:
    """The distinct terms that a question asks about: without "how long", "wie oft" and the like, which ask."""
    return list(dict.fromkeys(terms(_ASKING.sub(" ", question), of or language(question))))


def holds(term: str, among: frozenset[str] | set[str]) -> bool:
    """Whether a folded term stands in a text's terms, alone or as part of a (German) compound."""
    if term in among:
        return True
    return len(term) >= 5 and any(term in other or (len(other) >= 5 and other in term) for other in among)
