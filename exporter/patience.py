"""How long the API is left alone after failures, so that asking again does not become hammering."""

from exporter.errors import ApiError, Endless, Forbidden, Gone, PaymentRequired, QuotaSpent, Unauthorized

LONGEST_RETRY_AFTER = 3600.0

# What time alone does not mend: from the second failure in a row the pause doubles, up to so many seconds.
LONGEST_PAUSE: dict[type[ApiError], float] = {
    Unauthorized: 900.0,
    Forbidden: 900.0,
    PaymentRequired: 900.0,
    Gone: 600.0,
    Endless: 600.0,
    QuotaSpent: 3600.0,
}


def asked_rest(error: ApiError | None) -> float:
    """Give the seconds for which the API asked to be left alone, counted from its answer; 0 if it did not."""
    return min(error.retry_after or 0.0, LONGEST_RETRY_AFTER) if error else 0.0


class Patience:
    """Counts failures of one kind in a row."""

    def __init__(self) -> None:
        self._kind: type[ApiError] | None = None
        self._repeated = 0

    def pause(self, error: ApiError | None, interval: float) -> float:
        """Give the seconds to wait after this outcome, None for a good one; `interval` is the usual wait."""
        kind = type(error) if error else None
        self._repeated = self._repeated + 1 if kind is self._kind else 1
        self._kind = kind
        if error is None:
            return interval
        doubled = interval * 2.0 ** min(self._repeated - 1, 16)
        return max(interval, asked_rest(error), min(doubled, LONGEST_PAUSE.get(type(error), 0.0)))
