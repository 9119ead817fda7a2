"""Secrets kept out of text that others wrote: who refuses a key may quote it, in a spelling of its own.

A secret is found as it is, in any case, folded, percent-encoded, escaped for JSON or HTML, and in base64,
alone or behind other text as in `user:key`. A part of it, or one that was masked, is not. It takes time in
proportion to the text, whatever the text is.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from html import escape

REDACTED = "[redacted]"
_SHORTEST = 4  # a shorter one would black out every line and tell by its place what it is
_URL_SAFE = str.maketrans("+/", "-_")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with `[redacted]` in the place of each secret."""
    # The longest first: a secret may be the beginning of another.
    for secret in sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True):
        text = _pattern(secret).sub(REDACTED, text.replace(secret, REDACTED))
    return text


@lru_cache(maxsize=4)  # the key in force and the one before it
def _pattern(secret: str) -> re.Pattern[str]:
    return re.compile("|".join(map(_spelled, (secret, *_in_base64(secret)))), re.IGNORECASE)


def _spelled(secret: str) -> str:
    """Return the pattern of a secret with blanks and line breaks anywhere; it never tries a text twice."""
    return r"\s*+".join(map(_spellings, secret))


def _spellings(char: str) -> str:
    if char.isalnum():
        return char
    code = ord(char)
    forms = {char, escape(char), f"\\{char}", f"%{code:02x}", f"\\u{code:04x}", f"&#{code};", f"&#x{code:x};"}
    return f"(?>{'|'.join(map(re.escape, sorted(forms, key=len, reverse=True)))})"


def _in_base64(secret: str) -> Iterator[str]:
    """Yield what base64 makes of a secret at each of the three places where it may begin in a longer text."""
    for before, mixed in enumerate((0, 2, 3)):
        text = b64encode(bytes(before) + secret.encode()).decode()
        # The digits at both ends hold bits of the neighbours too.
        pure = text[mixed : text.index("=") - 1 if "=" in text else None]
        yield from {pure, pure.translate(_URL_SAFE)}
