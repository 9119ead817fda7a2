"""Work that would hold the event loop, done beside it.

In one thread, one piece of work at a time: more would only contend for the interpreter's lock with the loop,
and the allocator keeps freed memory for each thread apart, which a large fleet would feel.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """Calls a function in another thread, as `asyncio.to_thread` does."""

    async def __call__(self, function: Callable[..., T], /, *arguments: object) -> T:
        """Return what the function returns; raise what it raises."""


class WorkerThread:
    """A `Worker` with a thread of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker")

    async def __call__(self, function: Callable[..., T], /, *arguments: object) -> T:
        """Return what the function returns; raise what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
