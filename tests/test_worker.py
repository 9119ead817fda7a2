"""Work beside the event loop: in one thread, in order, and its errors come back."""

import asyncio
import threading

import pytest

from exporter.runtime.worker import WorkerThread

pytestmark = pytest.mark.anyio


async def test_all_work_is_done_in_one_other_thread() -> None:
    worker = WorkerThread()
    threads = await asyncio.gather(*(worker(threading.get_ident) for _ in range(8)))
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


async def test_the_loop_goes_on_meanwhile() -> None:
    worker, go_on = WorkerThread(), threading.Event()
    working = asyncio.create_task(worker(go_on.wait, 10.0))
    await asyncio.sleep(0)
    go_on.set()
    assert await working is True


async def test_what_the_work_raises_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await WorkerThread()(divmod, 1, 0)
