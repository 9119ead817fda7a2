"""Allowances and schedules as the composition root builds them, with defaults that limit little."""

from exporter.clock import Clock
from exporter.polling.allowance import RequestAllowance
from exporter.polling.quota import Quota
from exporter.polling.schedule import PollSchedule


def allowance_of(
    clock: Clock,
    *,
    requests_per_minute: int = 300,
    concurrency: int = 8,
    calls: int = 0,
    quota: Quota | None = None,
) -> RequestAllowance:
    return RequestAllowance(
        clock,
        requests_per_minute=requests_per_minute,
        concurrency=concurrency,
        quota=quota or Quota(calls, clock),
    )


def schedule_of(
    clock: Clock,
    *,
    interval: float = 60.0,
    idle_interval: float | None = None,
    stale_after: float | None = None,
    quota: Quota | None = None,
    allowance: RequestAllowance | None = None,
) -> PollSchedule:
    quota = quota or Quota(0, clock)
    return PollSchedule(
        clock,
        interval=interval,
        idle_interval=idle_interval,
        stale_after=stale_after,
        quota=quota,
        allowance=allowance or allowance_of(clock, quota=quota),
    )
