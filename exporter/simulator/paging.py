"""Pages of an ordered list, and the opaque tokens that lead from one to the next.

A token holds the sort key of the last item given, so paging stays right while items come and go: none is
given twice, none that stays is missed. It is sealed for one list; any other text is refused.
"""

import base64
import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

DEFAULT_SIZE = 50
MAXIMUM_SIZE = 1000  # a larger page is asked for in vain, as is usual, and not an error
SEAL_BYTES = 8

Item = TypeVar("Item")
Key = tuple[Any, ...]


def page_size(text: str) -> int:
    """Read the `page_size` of a query; "" and 0 are the default. ValueError when it is not a size."""
    if not re.fullmatch(r"[0-9]{0,9}", text):
        raise ValueError("page_size must be a non-negative integer")
    return min(int(text or 0) or DEFAULT_SIZE, MAXIMUM_SIZE)


def cut(
    ascending: Sequence[Item], key: Callable[[Item], Key], *, after: Key | None, size: int, descending: bool
) -> tuple[Sequence[Item], bool]:
    """Return the `size` items that follow the key `after`, and whether there are more.

    `ascending` is ordered by `key`; `descending` walks it from its end.
    """
    if descending:
        end = len(ascending) if after is None else bisect_left(ascending, after, key=key)
        begin = max(0, end - size)
        return ascending[begin:end][::-1], begin > 0
    begin = 0 if after is None else bisect_right(ascending, after, key=key)
    return ascending[begin : begin + size], begin + size < len(ascending)


def seal(scope: str, key: Key) -> str:
    """Make the token that leads on from `key` in the list `scope`."""
    payload = json.dumps(key).encode()
    return base64.urlsafe_b64encode(_seal(scope, payload) + payload).decode()


def unseal(scope: str, token: str) -> Key | None:
    """Return the key in a token, None for no token; ValueError when it was not made for `scope`."""
    if not token:
        return None
    # Not only bad base64 raises ValueError here: so does text that is not ASCII.
    raw = base64.b64decode(token, altchars=b"-_", validate=True)
    if _seal(scope, raw[SEAL_BYTES:]) != raw[:SEAL_BYTES]:
        raise ValueError("foreign page_token")
    return tuple(json.loads(raw[SEAL_BYTES:]))


def _seal(scope: str, payload: bytes) -> bytes:
    return hashlib.blake2b(scope.encode() + b"\0" + payload, digest_size=SEAL_BYTES).digest()
