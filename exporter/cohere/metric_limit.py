"""Which metrics of a model are kept where it has more than the limit: the headline ones, for good.

A headline metric is on most rows and has a short name (`loss`, `macro_f1` before `f1/class_07`). What is kept
once stays, so that no series ends because another begins.
"""

from collections import Counter
from collections.abc import Collection, Iterable


def select(
    names: Collection[str], rows: Iterable[Iterable[str]], kept: Collection[str], limit: int
) -> list[str]:
    """Return at most `limit` (0: all) of `names`, sorted: first those `kept` before, then the headline ones.

    `rows` are the names on each row.
    """
    if not limit or len(names) <= limit:
        return sorted(names)
    counts = Counter(name for row in rows for name in row)
    ranked = sorted(names, key=lambda name: (name not in kept, -counts[name], len(name), name))
    return sorted(ranked[:limit])
