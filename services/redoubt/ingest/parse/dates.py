"""A document's own date, in the forms that people and programs write; a bad one is ignored."""

import re
from datetime import UTC, date, datetime, time
from email.utils import parsedate_to_datetime

_PDF = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:([+-])(\d\d)'?(\d\d)?|Z)?")
_FORMS = ("%d.%m.%Y", "%d %B %Y", "%B %d, %Y", "%d %b %Y", "%Y/%m/%d", "%Y-%m", "%Y")


def instant(value: object) -> datetime | None:
    """The moment that a date value names, in UTC; a day means its midnight, a time without a zone is UTC."""
    try:
        if isinstance(value, str):
            value = _read(value.strip()[:64])
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime):
            return None
        found = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if 1900 <= found.year <= 2200 else None


def _read(text: str) -> datetime | None:
    if match := _PDF.match(text):
        return _pdf(match)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _FORMS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return parsedate_to_datetime(text)


def _pdf(match: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    zone = f"{sign}{zone_hours}:{zone_minutes or '00'}" if sign else "+00:00"
    return datetime.fromisoformat(
        f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone}"
    )
