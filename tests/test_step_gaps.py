"""Rows between the last known step and the first page of a reading: fetched, or counted as missed."""

from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from exporter.errors import QuotaSpent
from exporter.model import FinetunedModel, StepRows
from tests.conftest import FakeClock
from tests.test_client import a_client, sized
from tests.test_exposition_steps import Exposed

pytestmark = pytest.mark.anyio

MODEL = FinetunedModel(id="m", name="chat")
APART = 10  # steps from one row to the next, and seconds


def newest_first(rows: int, since: float) -> list[dict[str, Any]]:
    return [
        {
            "step_number": row * APART,
            "created_at": datetime.fromtimestamp(since + row * APART, UTC).isoformat(),
            "metrics": {"loss": 0.5},
        }
        for row in reversed(range(rows))
    ]


@pytest.mark.parametrize("most", [50, 1000], ids=["pages of 50", "large pages"])
@pytest.mark.parametrize("pays", [True, False], ids=["calls for all", "one call"])
async def test_a_gap_is_fetched_or_counted(clock: FakeClock, most: int, pays: bool) -> None:
    begun = clock.time() - 3600
    exposed = Exposed(clock)
    rows = newest_first(100, begun)
    calls: Iterator[None] = iter(())

    def handle(request: httpx.Request) -> httpx.Response | Awaitable[httpx.Response]:
        if not pays and next(calls, "none") == "none":
            raise QuotaSpent("spent")
        return sized(rows, default=50, most=most)(request)

    async with a_client(handle, saves_calls=most > 50) as (client, _):
        calls = iter([None] * 5)
        first = await client.training_steps("m")
        await exposed.arrive(*first.rows)
        assert len(await exposed.numbers()) == 100
        rows, calls = newest_first(350, begun), iter([None])
        reading = await client.training_steps("m", first.progress, first.cursor)
        exposed.steps.offer(StepRows(model=MODEL, rows=reading.rows, missed=reading.missed))
        await exposed.steps.publish()
    whole = pays or most > 50
    assert len(await exposed.numbers()) == (350 if whole else 150)
    assert exposed.missed == (0 if whole else 200)
