"""How much a parser may take in and give out, so that no document can harm the others."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parsers' process needs no settings, and starts faster without
    from redoubt.settings import IngestSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold inside a parser; time and memory are bounded from outside, by the sandbox."""

    max_text_chars: int = 20_000_000  # characters of extracted text
    max_unpacked_bytes: int = 300_000_000  # what a ZIP may unpack to, all members together
    max_ratio: int = 200  # unpacked to packed, for a ZIP member above 10 MB
    max_members: int = 10_000  # files in a ZIP
    max_line_chars: int = 1_000_000  # one row of a CSV file
    max_depth: int = 5_000  # nested HTML elements

    @classmethod
    def of(cls, settings: "IngestSettings") -> "Limits":
        """The limits that a worker's settings ask for."""
        return cls(max_text_chars=settings.max_text_chars, max_unpacked_bytes=3 * settings.max_bytes)
