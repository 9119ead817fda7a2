import json
import re
import time
import urllib.parse
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.runtime.redaction import REDACTED, redact

KEY = 'Ab9/x"K+never-SHOWN\\&7'
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "in small letters": str.lower,
    "percent-encoded": lambda key: urllib.parse.quote(key, safe=""),
    "percent-encoded in small letters": lambda key: urllib.parse.quote(key, safe="").lower(),
    "escaped for JSON": lambda key: json.dumps(key)[1:-1],
    "escaped for HTML": escape,
    "escaped for HTML by numbers": lambda key: key.replace('"', "&#34;").replace("/", "&#x2F;"),
    "folded": lambda key: f"{key[:9]}\r\n {key[9:]}",
    "in base64": lambda key: b64encode(key.encode()).decode(),
    "in base64 for URLs": lambda key: urlsafe_b64encode(key.encode()).decode(),
    "in base64, percent-encoded": lambda key: urllib.parse.quote(b64encode(key.encode()).decode(), safe=""),
    "in base64, folded": lambda key: "\n".join(b64encode(key.encode()).decode().partition("5L")),
}
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=64)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_hidden_however_it_is_spelled(spelling: str) -> None:
    shown = redact(f"bad key <{SPELLINGS[spelling](KEY)}>!", [KEY])
    # The last digit of base64 may be left: it holds four bits at most.
    assert re.fullmatch(re.escape(f"bad key <{REDACTED}") + r"(\w(=|%3D)*)?>!", shown)


@given(KEYS, st.sampled_from(list(SPELLINGS)))
def test_any_secret_is_hidden_however_it_is_spelled(key: str, spelling: str) -> None:
    assert REDACTED in redact(f"bad key {SPELLINGS[spelling](key)} given", [key])


@given(KEYS, st.binary(max_size=20), st.binary(max_size=20))
def test_in_base64_it_is_hidden_amid_anything(key: str, before: bytes, after: bytes) -> None:
    encoded = b64encode(before + key.encode() + after).decode()
    assert REDACTED in redact(encoded, [key])


def test_the_text_around_it_stays() -> None:
    assert redact(f"x{KEY}y{KEY}z", [KEY]) == f"x{REDACTED}y{REDACTED}z"


def test_of_two_secrets_the_longer_is_hidden_whole() -> None:
    assert redact("secret-and-more", ["secret", "secret-and-more"]) == REDACTED


@pytest.mark.parametrize("secret", ["", "a", "abc"])
def test_what_is_too_short_for_a_secret_hides_nothing(secret: str) -> None:
    assert redact("abc and a", [secret]) == "abc and a"


@pytest.mark.parametrize("secret", ["a" * 63 + "b", "\\" * 64, "%25" * 21, "&amp;" * 12])
def test_a_text_made_to_mislead_takes_no_time(secret: str) -> None:
    text = (secret[:-1] * 2 + " ") * 500
    started = time.process_time()
    redact(text, [secret])
    assert time.process_time() - started < 2
