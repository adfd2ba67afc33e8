"""Numbers, dates, times, names and negations of a text in one normal form, so that two spellings compare equal.

7:30 = 07:30 = 7.30 Uhr = 7:30 AM; 1,000 = 1000 = 1.000 (German); 3,5 (German) = 3.5; 2 March 2026 =
2. März 2026 = 2026-03-02; two hours = 2 h = 120 minutes.
"""

import re
from dataclasses import dataclass
from typing import Literal

from redoubt.gateway.terms import Language, fold, language, stopword

Kind = Literal["number", "time", "date", "weekday", "name", "negation"]


@dataclass(frozen=True, slots=True)
class Value:
    """One value: `normal` compares equal when the two mean the same; `unit` is "" where there is none."""

    kind: Kind
    normal: str
    unit: str
    text: str  # as written
    start: int
    end: int


_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january januar jänner jan", "february februar feb", "march märz mar mrz", "april apr", "may mai",
            "june juni jun", "july juli jul", "august aug", "september sep sept", "october oktober oct okt",
            "november nov", "december dezember dec dez",
        ), 1,
    )
    for name in names.split()
}  # fmt: skip
_WEEKDAYS = {
    name: str(number)
    for number, names in enumerate(
        ("monday montag", "tuesday dienstag", "wednesday mittwoch", "thursday donnerstag", "friday freitag",
         "saturday samstag sonnabend", "sunday sonntag")
    )
    for name in names.split()
}  # fmt: skip
_WORDS = {
    word: number
    for number, words in (
        (0, "zero null"), (2, "two zwei both beide beiden"), (3, "three drei"), (4, "four vier"), (5, "five fünf"),
        (6, "six sechs"), (7, "seven sieben"), (8, "eight acht"), (9, "nine neun"), (10, "ten zehn"),
        (11, "eleven elf"), (12, "twelve zwölf"), (13, "thirteen dreizehn"), (14, "fourteen vierzehn"),
        (15, "fifteen fünfzehn"), (16, "sixteen sechzehn"), (17, "seventeen siebzehn"), (18, "eighteen achtzehn"),
        (19, "nineteen neunzehn"), (20, "twenty zwanzig"), (30, "thirty dreißig"), (40, "forty vierzig"),
        (50, "fifty fünfzig"), (60, "sixty sechzig"), (70, "seventy siebzig"), (80, "eighty achtzig"),
        (90, "ninety neunzig"),
    )
    for word in words.split()
}  # fmt: skip
_TENS = {20, 30, 40, 50, 60, 70, 80, 90}
_SCALES = {"hundred": 100, "hundert": 100, "thousand": 1000, "tausend": 1000, "million": 10**6, "millionen": 10**6,
           "billion": 10**9, "milliarde": 10**9, "milliarden": 10**9}  # fmt: skip
# written form → (base unit, factor)
_UNITS = {
    word: (base, factor)
    for base, factor, words in (
        ("%", 1.0, "% percent prozent"), ("min", 1.0, "min mins minute minutes minuten"),
        ("min", 60.0, "h hr hrs hour hours stunde stunden std"), ("min", 1 / 60, "s sec secs second seconds sekunden"),
        ("day", 1.0, "day days tag tage tagen"), ("day", 7.0, "week weeks woche wochen"),
        ("month", 1.0, "month months monat monate monaten"), ("month", 12.0, "year years jahr jahre jahren"),
        ("mg", 1.0, "mg"), ("mg", 1000.0, "g gram grams gramm"), ("mg", 1e6, "kg"), ("mg", 1e-3, "µg μg mcg"),
        ("ml", 1.0, "ml"), ("ml", 1000.0, "l litre litres liter liters"), ("ml", 10.0, "cl"),
        ("mm", 1.0, "mm"), ("mm", 10.0, "cm"), ("mm", 1000.0, "m metre metres meter meters"), ("mm", 1e6, "km"),
        ("€", 1.0, "€ eur euro euros"), ("£", 1.0, "£ gbp pound pounds pfund"), ("$", 1.0, "$ usd dollar dollars"),
        ("°", 1.0, "° °c"), ("mmhg", 1.0, "mmhg"), ("bpm", 1.0, "bpm"), ("iu", 1.0, "iu units unit einheiten"),
    )
    for word in words.split()
}  # fmt: skip

_MONTH = "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True))
_HALF = r"(?:\s*(?P<half{n}>a\.?m\.?|p\.?m\.?)(?![a-z]))"
_CLOCK = re.compile(
    r"(?<![\d.,:/-])(?P<hour>[01]?\d|2[0-4])(?:(?P<sep>[:.])(?P<minute>[0-5]\d))?(?![\d:])"
    r"(?:\s*(?P<half>a\.?m\b\.?|p\.?m\b\.?)|\s*(?P<uhr>Uhr|o['’]clock)\b)?",
    re.IGNORECASE,
)
_RANGE = re.compile(r"\s*(?:-|–|—|to|till|until|and|bis|und|noon)\s*$", re.IGNORECASE)
_NOON = re.compile(r"\b(noon|midday|midnight|mitternacht)\b|\b12 uhr mittags\b", re.IGNORECASE)
_ISO = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")
_DOTTED = re.compile(r"(?<![\d.])(\d{1,2})[./](\d{1,2})[./](\d{4}|\d{2})(?![\d.]\d)")
_DAY_MONTH = re.compile(
    rf"(?<![\d.,])(\d{{1,2}})(?:st|nd|rd|th|\.)?\s+(?:of\s+)?({_MONTH})\b\.?(?:\s?,?\s+(\d{{4}})\b)?", re.IGNORECASE
)
_MONTH_DAY = re.compile(
    rf"\b({_MONTH})\b\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?\b(?!\.?\d)(?:\s?,?\s+(\d{{4}})\b)?", re.IGNORECASE
)
_MONTH_YEAR = re.compile(rf"\b({_MONTH})\b\.?\s?,?\s+(\d{{4}})\b", re.IGNORECASE)
_YEAR = re.compile(r"(?<![\d.,:/€£$])(?<!\d-)(1[5-9]\d\d|20\d\d)(?![\d:%]|[.,]\d)(?:\s?(?P<word>[a-zäöüµ€£$°]+))?")
_YEAR_FOLLOWS = re.compile(
    r"\b(?:in|since|from|until|till|by|of|year|before|after|im|jahre?|seit|bis|ab|vor|nach|von)\s$", re.IGNORECASE
)
_WEEKDAY = re.compile(rf"\b({'|'.join(_WEEKDAYS)})s?\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-−]\s?)?(?P<money>[€£$]\s?)?"
    r"(?P<digits>\d{1,3}(?:['’\u00a0\u2009\u202f]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d+)*)(?P<tail>[a-z%°µμ]*)",
    re.IGNORECASE,
)
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})\b", re.IGNORECASE)
_AFTER = re.compile(r"[\s\-  ]{0,2}(%|°C?|€|£|\$|[^\W\d_]+)")
_NEGATION = re.compile(
    r"\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|forbidden|prohibited|banned|"
    r"nicht|kein(?:e[nmrs]?)?|nie|niemals|niemand|nichts|weder|ohne|verboten|untersagt)\b|n['’]t\b|\bn't\b",
    re.IGNORECASE,
)
_CAPITAL = re.compile(
    r"(?:[A-ZÄÖÜ][\w'’&-]*|\d+[A-Z]\w*)(?:[ ](?:(?:of|the|de|von|van|der|for|and|&)[ ])?[A-ZÄÖÜ][\w'’&-]*)*"
)


def values(text: str, of: Language | None = None) -> list[Value]:
    """All values of a text in order; no two overlap, except that a negation may stand anywhere."""
    of = of or language(text)
    found: list[Value] = []
    taken = bytearray(len(text))
    for value in (*_dates(text), *_times(text), *_years(text, of), *_numbers(text, of), *_number_words(text)):
        if not any(taken[value.start : value.end]):
            taken[value.start : value.end] = b"\1" * (value.end - value.start)
            found.append(value)
    found.extend(
        Value("negation", "not", "", match.group(), match.start(), match.end()) for match in _NEGATION.finditer(text)
    )
    found.extend(name for name in _names(text, of) if not any(taken[name.start : name.end]))
    return sorted(found, key=lambda value: value.start)


def _dates(text: str) -> list[Value]:
    found: list[Value] = []

    def add(match: re.Match[str], year: str | None, month: int, day: str | None) -> None:
        if not 1 <= month <= 12 or (day and not 1 <= int(day) <= 31):
            return
        year = f"20{year}" if year and len(year) == 2 else year
        normal = f"{year or '????'}-{month:02d}-{int(day):02d}" if day else f"{year}-{month:02d}"
        found.append(Value("date", normal, "", match.group(), match.start(), match.end()))

    for match in _ISO.finditer(text):
        add(match, match[1], int(match[2]), match[3])
    for match in _DOTTED.finditer(text):
        add(match, match[3], int(match[2]), match[1])
    for match in _DAY_MONTH.finditer(text):
        add(match, match[3], _MONTHS[match[2].lower()], match[1])
    for match in _MONTH_DAY.finditer(text):
        add(match, match[3], _MONTHS[match[1].lower()], match[2])
    for match in _MONTH_YEAR.finditer(text):
        add(match, match[2], _MONTHS[match[1].lower()], None)
    found.extend(
        Value("weekday", _WEEKDAYS[match[1].lower()], "", match.group(), match.start(), match.end())
        for match in _WEEKDAY.finditer(text)
    )
    return found


def _years(text: str, of: Language) -> list[Value]:
    """Years on their own: "2019 patients" has none, "in 2019 patients" has one."""
    found = []
    for match in _YEAR.finditer(text):
        word = match["word"]
        if word and not stopword(word, of) and not _YEAR_FOLLOWS.search(text, 0, match.start()):
            continue
        found.append(Value("date", match[1], "", match[1], match.start(1), match.end(1)))
    return found


def _times(text: str) -> list[Value]:
    matches = list(_CLOCK.finditer(text))
    found: list[Value] = []
    half = uhr = ""  # what the later end of a range says holds for its beginning: "from 9 to 11 am"
    later: int | None = None
    for match in reversed(matches):
        joined = later is not None and bool(_RANGE.match(text[match.end() : later]))
        own_half, own_uhr = match["half"] or "", match["uhr"] or ""
        clock = bool(own_half or own_uhr or match["sep"] == ":")
        if not clock and not (joined and (half or uhr)):
            later = None
            half = uhr = ""
            continue
        half, uhr = own_half or (half if joined else ""), own_uhr or (uhr if joined else "")
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        if half:
            later_half = half.lower().startswith("p")
            hour = hour % 12 + (12 if later_half else 0) if hour <= 12 else hour
        found.append(Value("time", f"{hour % 24:02d}:{minute:02d}", "", match.group(), match.start(), match.end()))
        later = match.start()
    for match in _NOON.finditer(text):
        normal = "00:00" if match.group().lower().startswith(("midn", "mittern")) else "12:00"
        found.append(Value("time", normal, "", match.group(), match.start(), match.end()))
    return found


def _numbers(text: str, of: Language) -> list[Value]:
    found = []
    for match in _NUMBER.finditer(text):
        digits, tail = match["digits"], match["tail"].lower()
        if tail and tail not in _UNITS and tail not in {"st", "nd", "rd", "th"}:
            continue  # an identifier such as 4b or 2nd-generation parts: a name, if anything
        number = _parse(digits, of)
        if number is None:
            continue
        end = match.end()
        word = tail if tail in _UNITS else ""
        if match["money"]:
            word = match["money"].strip()
        if not word or word in "€£$":
            after = _AFTER.match(text, end)
            scale = _SCALES.get(after[1].lower()) if after else None
            if after and scale:
                number, end = number * scale, after.end()
                after = _AFTER.match(text, end)
            if not word and after and not stopword(after[1], of):
                word = after[1].lower()
                end = after.end() if word in _UNITS else end
        found.append(_number(text, number, word, match.start(), end))
    return found


def _number_words(text: str) -> list[Value]:
    found: list[Value] = []
    skip = -1
    for match in _NUMBER_WORD.finditer(text):
        if match.start() < skip:
            continue
        number, end = float(_WORDS[match.group().lower()]), match.end()
        if number in _TENS and (ones := _NUMBER_WORD.match(text, end + 1)) and 0 < _WORDS[ones.group().lower()] < 10:
            number, end = number + _WORDS[ones.group().lower()], ones.end()
        after = _AFTER.match(text, end)
        if after and (scale := _SCALES.get(after[1].lower())):
            number, end = number * scale, after.end()
            after = _AFTER.match(text, end)
        word = after[1].lower() if after else ""
        end = after.end() if after and word in _UNITS else end
        skip = end
        found.append(_number(text, number, word, match.start(), end))
    return found


def _number(text: str, number: float, word: str, start: int, end: int) -> Value:
    unit, factor = _UNITS.get(word, (fold(word) if word else "", 1.0))
    return Value("number", f"{round(number * factor, 6):.10g}", unit, text[start:end].strip(), start, end)


def _parse(digits: str, of: Language) -> float | None:
    plain = re.sub(r"['’\u00a0\u2009\u202f]", "", digits).rstrip(".,")
    if "." in plain and "," in plain:  # the later one is the decimal sign
        thousands = "," if plain.rindex(".") > plain.rindex(",") else "."
        plain = plain.replace(thousands, "").replace(",", ".")
    elif "," in plain:
        grouped = re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+", plain)
        plain = plain.replace(",", "") if grouped and not (of == "de" and plain.count(",") == 1) else plain
        plain = plain.replace(",", ".")
    elif "." in plain and of == "de" and re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+", plain):
        plain = plain.replace(".", "")
    try:
        return float(plain)
    except ValueError:
        return None


def _names(text: str, of: Language) -> list[Value]:
    """Capitalised words within a sentence; in German, where every noun is capitalised, two or more in a row."""
    found = []
    for match in _CAPITAL.finditer(text):
        words = match.group().split()
        first = match.start() == 0 or text[: match.start()].rstrip()[-1:] in '.!?:\n|•-*#>"“('
        while words and (stopword(words[0], of) or words[0].lower() in _MONTHS or words[0].lower() in _WEEKDAYS):
            words, first = words[1:], False
        if not words:
            continue
        written = " ".join(words)
        acronym = sum(c.isupper() for c in written) >= 2 and len(words) == 1
        if (first or of == "de") and len(words) == 1 and not acronym:
            continue
        start = match.end() - len(written)
        normal = " ".join(fold(word) for word in words)
        found.append(Value("name", normal, "", written, start, match.end()))
    return found
