"""Characters that readers see, and no others: what is stored is what is quoted.

Invisible characters can hide instructions from people or break up words against search, so they go.
"""

import re
import unicodedata

_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters
    "\u00ad\u180e\u200b\u2060-\u2064\ufeff"  # soft hyphen, zero-width spaces and joiners
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # direction controls
    "\ufff9-\ufffb\U000e0000-\U000e007f]"  # annotations, tags
    # Joiners are letters' business in Arabic and Indic scripts, and invisible elsewhere.
    "|(?<![\u0600-\u0dff])[\u200c\u200d]+|[\u200c\u200d]+(?![\u0600-\u0dff])"
    # One variation selector chooses a glyph; a run of them carries hidden bytes.
    "|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}"
)
_BLANKS = re.compile(r"\s+")


def clean(text: str) -> str:
    r"""NFC with "\n" line ends and plain spaces, without control, zero-width and direction characters."""
    text = _LINE_END.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", _SPACE.sub(" ", text))
        # Composing may bring two characters together that are only then an invisible run; one more pass settles it.
        text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return text


def one_line(text: str) -> str:
    """Cleaned text with every run of white space as one space."""
    return _BLANKS.sub(" ", clean(text)).strip()
