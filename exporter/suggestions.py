"""What a mistyped name was probably meant to be; nothing where nothing is close."""

from collections.abc import Iterable
from difflib import SequenceMatcher

_CLOSE = 0.75  # of 1; --json is no --version, --poll.intervall is --poll.interval
_GROUP = 0.99  # what a group counts of a name
_ENOUGH = 4  # letters; of fewer, one wrong leaves too little in common


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return "; did you mean …?" with the name closest to `word`, or "" when none is close.

    `prefix` begins every known name and may be missing from `word`. A name without its group counts as the
    name: --interval means --poll.interval, unless more options end like that. A group with one name counts as
    that: --config means --config.file.
    """
    bare = _bare(word, prefix)
    scores = {name: _closeness(bare, _bare(name, prefix)) for name in known}
    best = max(scores.values(), default=0.0)
    nearest = [name for name, score in scores.items() if score == best]
    return f"; did you mean {nearest[0]}?" if best >= _CLOSE and len(nearest) == 1 else ""


def _bare(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lstrip("-").replace("_", "-").lower()


def _closeness(word: str, name: str) -> float:
    group, dot, tail = name.partition(".")
    candidates = [(name, 1.0)]
    # One letter too many or too few in a short name is close, too.
    if len(tail) >= _ENOUGH:
        candidates.append((tail, 1.0))
    if dot and len(group) >= _ENOUGH and "." not in word:
        candidates.append((group, _GROUP))
    return max(SequenceMatcher(a=word, b=part).ratio() * share for part, share in candidates)
