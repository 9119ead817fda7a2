"""Basic authentication against bcrypt hashes, as exporter-toolkit does it.

A check costs tens of milliseconds by design, so one runs at a time, in a thread, and few wait. Results are
remembered under a keyed hash that dies with the process: no password is kept, and a scrape costs nothing
more. Guesses can push out only guesses. A user that does not exist costs as much as one that does.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping

from exporter.runtime.worker import WorkerThread

_REMEMBERED = 100  # results of each kind; as in the toolkit
_WAITING = 64
_SIGNIFICANT = 72  # bytes of a password; bcrypt, and so the toolkit, ignores the rest

CheckPassword = Callable[[bytes, bytes], bool]
"""Whether a password of at most 72 bytes has this hash, as bcrypt finds out."""


class TooManyLogins(Exception):
    """Too many wait for a check already."""


class BasicAuth:
    """Who may come in: `users` are bcrypt hashes by name."""

    def __init__(self, users: Mapping[str, str], check: CheckPassword | None = None) -> None:
        self._users = {name.encode(): hashed.encode() for name, hashed in users.items()}
        self._highest_cost = max(map(_cost, self._users.values()))
        self._check = check or _bcrypt()
        self._key = secrets.token_bytes(32)
        self._good: dict[bytes, None] = {}  # in the order in which they were added
        self._bad: dict[bytes, None] = {}
        # Not asyncio's own threads, all of which a resolver that hangs may hold.
        self._worker = WorkerThread()
        self._checking = asyncio.Lock()
        self._waiting = 0

    def remembers(self, authorization: str) -> bool | None:
        """Return whether this `Authorization` header lets a request pass; None where that is not known."""
        credentials = _credentials(authorization)
        return False if credentials is None else self._known(self._digest(*credentials))

    async def admit(self, authorization: str) -> bool:
        """Return whether a request with this `Authorization` header may pass; raise TooManyLogins."""
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        if self._waiting >= _WAITING:
            raise TooManyLogins
        self._waiting += 1
        try:
            async with self._checking:
                return await self._checked(*credentials)
        finally:
            self._waiting -= 1

    async def _checked(self, user: bytes, password: bytes) -> bool:
        digest = self._digest(user, password)
        known = self._known(digest)  # another request may have found out meanwhile
        if known is None:
            known = await self._worker(self._verify, user, password)
            remembered = self._good if known else self._bad
            remembered[digest] = None
            if len(remembered) > _REMEMBERED:
                del remembered[next(iter(remembered))]
        return known

    def _verify(self, user: bytes, password: bytes) -> bool:
        """Check a password, always at the price of the dearest hash: 2^highest rounds.

        A hash of cost c takes 2^c rounds; c, c + 1, … up to the highest - 1 are what is missing to its price.
        """
        password = password[:_SIGNIFICANT]
        hashed = self._users.get(user, _dummy_hash(self._highest_cost))
        matches = self._check(password, hashed)
        for cost in range(_cost(hashed), self._highest_cost):
            self._check(password, _dummy_hash(cost))
        return matches and user in self._users

    def _known(self, digest: bytes) -> bool | None:
        if digest in self._good:
            return True
        return False if digest in self._bad else None

    def _digest(self, user: bytes, password: bytes) -> bytes:
        text = b"%d:%b%b" % (len(user), user, password)
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()


def _bcrypt() -> CheckPassword:
    from bcrypt import checkpw  # noqa: PLC0415 - its memory is for those who use it

    return checkpw


def _cost(hashed: bytes) -> int:
    return int(hashed[4:6])


def _dummy_hash(cost: int) -> bytes:
    """Return a well-formed hash that no known password has."""
    return b"$2b$%02d$" % cost + b"." * 53


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """Return user and password of a header, None when it has none."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text, validate=True).partition(b":")
    except ValueError:
        return None
    return (user, password) if colon else None
