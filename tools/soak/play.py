"""Plays the schedule: puts each row in force when it is due and ends it after its time, day after day."""

import itertools
from collections.abc import Callable
from pathlib import Path

from tools.soak.api import Api
from tools.soak.schedule import DAY, MINUTE, ROWS, Row
from tools.soak.virtual import VirtualClock
from tools.soak.watch import KEY_PREFIX

_JUMP = {"clock two hours fast": 7200.0, "clock two hours slow": -7200.0}


class Play:
    """The faults in force; `on_new_key` is told when the key file holds another key."""

    def __init__(self, api: Api, clock: VirtualClock, key_file: Path, on_new_key: Callable[[], None]) -> None:
        self.faults = 0
        self._api = api
        self._clock = clock
        self._key_file = key_file
        self._on_new_key = on_new_key
        self._keys = (f"{KEY_PREFIX}{number}" for number in itertools.count())
        self._rotate()
        self._write(self._api.key)

    async def for_ever(self) -> None:
        """Play."""
        for day in itertools.count():
            for row in ROWS:
                await self._until(day * DAY + row.at * MINUTE)
                await self._begin(row)
                await self._until(day * DAY + (row.at + row.minutes) * MINUTE)
                await self._end(row)

    async def _until(self, moment: float) -> None:
        await self._clock.sleep(moment - self._clock.monotonic())

    async def _begin(self, row: Row) -> None:
        self.faults += 1
        self._api.row = row
        self._clock.jump = _JUMP.get(row.kind, 0.0)
        if row.kind == "refused":
            self._api.refuse()
        elif row.kind == "key file gone":
            self._key_file.unlink()
        elif row.kind == "key file empty":
            self._write("")
        elif row.kind == "key file of junk":
            self._write("two words\nand more")
        elif row.kind.startswith("key rotated"):
            self._rotate()
            if row.kind == "key rotated":
                self._hand_over()

    async def _end(self, row: Row) -> None:
        self._api.row = None
        self._clock.jump = 0.0
        if row.kind == "refused":
            await self._api.listen()
        elif row.kind.startswith("key file"):
            self._write(self._api.key)
        elif row.kind == "key rotated, file late":
            self._hand_over()

    def _rotate(self) -> None:
        self._api.key = next(self._keys)

    def _hand_over(self) -> None:
        self._write(self._api.key)
        self._on_new_key()

    def _write(self, text: str) -> None:
        self._key_file.write_text(text, encoding="utf-8")
