"""The API key: where it comes from, and how it is kept out of everything else.

The key is no setting: it comes by the environment or in a file, never by a flag, and neither a `repr` nor a
message shows it. A key from a file is read anew each time it is needed, so a rotated secret needs no restart;
when the file fails, the last good key stays in use and `error` says why.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from exporter.runtime.files import Unreadable, read_again
from exporter.settings.options import Settings, SettingsError

KEY_VARIABLES = ("COHERE_API_KEY", "CO_API_KEY")
_COHERE_DOMAINS = ("cohere.com", "cohere.ai")
_SENDABLE = re.compile(r"[\x21-\x7e]{0,16384}")
# What tools and people write around a key; nobody's key looks so.
_WRAPPED = (
    (re.compile(r"(['\"]).*\1"), "is in quotes, which would become part of the key; remove them"),
    (re.compile(r"(?:export\s+)?[A-Z][A-Z0-9_]*=[^=]"), "begins with NAME=; write the key alone"),
    (re.compile(r"\$[({]?[A-Za-z_]"), "is a variable that was not expanded"),
    (re.compile(r"\{.*}", re.DOTALL), "is JSON; write the key alone"),
    (re.compile(r"(?i:bearer)\s"), "begins with Bearer, which the exporter adds itself; write the key alone"),
)
_LARGEST = 65_536  # bytes


class ApiKey:
    """A key that may change while the program runs; "" where none is needed.

    `error` is one line on why the file could not be used at the last `read`, None while all is well;
    `on_reload` is called with it when it or the key has changed.
    """

    def __init__(self, value: str = "", *, file: Path | None = None) -> None:
        """Hold a fixed `value`, or the key in `file`; ValueError, naming no content, when it is no key."""
        self.error: str | None = None
        self.on_reload: Callable[[str | None], None] = lambda _: None
        self._file = file
        self._value = _checked(value) if file is None else _read(file)
        self._previous = ""

    def __repr__(self) -> str:
        return f"ApiKey({'no key' if not self._value else self._file or 'fixed'})"

    def read(self) -> str:
        """Return the key as it is now; never raises."""
        if self._file is not None:
            self._refresh(self._file)
        return self._value

    def secrets(self) -> tuple[str, ...]:
        """Return what the log must not show: the key, and the one before it, which may still be under way."""
        return tuple(key for key in (self._value, self._previous) if key)

    def _refresh(self, file: Path) -> None:
        try:
            value = _read(file)
            error = f"{file} is empty" if self._value and not value else None
        except ValueError as refused:
            error = str(refused)
        has_changed = error is None and value != self._value
        if has_changed:
            self._value, self._previous = value, self._value
        if has_changed or error != self.error:
            self.error = error
            self.on_reload(error)


def resolve_key(settings: Settings, environ: Mapping[str, str]) -> ApiKey:
    """Find the key in the environment or in `--cohere.api-key-file`.

    Raises SettingsError when both are given, when the key cannot be used, and when there is none although the
    base URL is one of Cohere's own hosts; elsewhere no key is right.
    """
    variable = next((name for name in KEY_VARIABLES if environ.get(name, "").strip()), None)
    file, origin = settings.cohere.api_key_file, settings.origin("cohere.api-key-file")
    if variable and file:
        raise SettingsError(f"{variable} and {origin} are both set; keep one")
    try:
        key = ApiKey(environ[variable]) if variable else ApiKey(file=file)
    except ValueError as error:
        raise SettingsError(f"{variable or origin}: {error}") from None
    if _is_cohere_s(settings.cohere.base_url) and not key.secrets():
        if file:
            raise SettingsError(f"{origin}: {file} is empty")
        raise SettingsError(f"no API key: set COHERE_API_KEY or {origin}; the subcommand demo needs none")
    return key


def _is_cohere_s(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    return any(host == domain or host.endswith(f".{domain}") for domain in _COHERE_DOMAINS)


def _read(file: Path) -> str:
    try:
        # What is not UTF-8 becomes a character that no key has.
        return _checked(read_again(file, _LARGEST).decode("utf-8-sig", "replace"))
    except Unreadable as error:
        raise ValueError(f"cannot read {file}: {error}") from None
    except ValueError as error:
        raise ValueError(f"the content of {file} {error}") from None


def _checked(key: str) -> str:
    """Return a key without the blanks around it; raise ValueError, which repeats nothing of it."""
    key = key.strip()
    for wrapped, reason in _WRAPPED:
        if wrapped.match(key):
            raise ValueError(reason)
    if not _SENDABLE.fullmatch(key):
        raise ValueError("cannot be an API key: a key is one line of printable ASCII without blanks")
    return key
