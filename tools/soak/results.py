"""What a run was and what it found, as data and as a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from tools.soak.resources import Trend, trends

LONGEST_WARM_UP = 24  # hours
Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Report:
    """One run of so many hours; `counts` and `reasons`, of failed polls, are told in their order.

    `rows` are the samples of `RESOURCES`, one an hour; `findings` is what was wrong, empty after a good run.
    """

    hours: int
    counts: Mapping[str, int]
    reasons: Mapping[str, int] = field(default_factory=dict)
    rows: Rows = ()
    findings: Sequence[str] = ()

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Read what `as_data` gave."""
        return cls(**data)

    def as_data(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @property
    def warm_up(self) -> int:
        """Hours that are not judged: a day, or a quarter of a short run."""
        return min(LONGEST_WARM_UP, self.hours // 4)

    @property
    def trends(self) -> list[Trend]:
        """How each resource has developed."""
        return list(trends(self.rows, self.warm_up)) if self.rows else []

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong and nothing has grown."""
        return not self.findings and all(trend.is_flat for trend in self.trends)


def lines(report: Report) -> Iterator[str]:
    """Show a report."""
    for name, count in report.counts.items():
        yield f"  {name:<44}{count:>12,}"
    for reason, count in report.reasons.items():
        yield f"    failed with {reason:<30}{count:>12,}"
    if report.trends:
        yield f"  {'':<20}{'first quarter':>14}{'last quarter':>14}{'may grow by':>14}"
    for trend in report.trends:
        verdict = "flat" if trend.is_flat else "HAS GROWN"
        yield (
            f"  {trend.resource.name:<20}"
            + "".join(f"{cell:>14}" for cell in trend_cells(trend))
            + f"  {verdict}"
        )
    yield from (f"  FOUND {finding}" for finding in report.findings)


def trend_cells(trend: Trend) -> tuple[str, str, str]:
    """Write first, last and the growth that is tolerated."""
    first, last = (amount(value, trend.resource.unit) for value in (trend.first, trend.last))
    return first, last, amount(trend.resource.allowed(trend.first), trend.resource.unit)


def amount(value: float, unit: str) -> str:
    """Write a figure of a resource with its unit, if it is no mere count."""
    return f"{value:.1f} {unit}" if unit == "MiB" else f"{value:,.0f}"
