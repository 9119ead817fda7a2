"""What must hold for any bytes at all: one function a reader of foreign bytes, which raises when it does not.

`models` and `steps` read a page of the API, `answers` a whole answer (the status, headers, an empty line, the
body), `web_config` the file of --web.config.file, `requests` what a client sends on a connection.
"""

import asyncio
import re
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx

from exporter.cohere.pagination import PageCache, Reader
from exporter.cohere.response import error_of, read_body
from exporter.cohere.steps import is_descending, latest
from exporter.cohere.wire import REJECTED_KINDS, Page, read_models, read_steps
from exporter.errors import REASONS, InvalidResponse
from exporter.model import FinetunedModel, ModelState
from exporter.runtime.reload import ReloadError
from exporter.web.config import read_config
from exporter.web.limits import Limits
from exporter.web.messages import Request, RequestParser, Response
from exporter.web.server import WebServer
from tools.fuzz import judge

CORPUS = Path(__file__).parent / "corpus"
KEY = "key-that-nobody-may-see"
SECRET = "s3cr3t-value"  # noqa: S105 - stands in the seeds, so that it can be looked for
_METRIC_LIMIT = 3
_BODY_LIMIT = 4096
_LONGEST_MESSAGE = 400
T = TypeVar("T")


def models(data: bytes) -> None:
    """Read a page of models, twice: the second time it is known."""
    page = _read(read_models, data)
    if page is None:
        return
    for model in page.items:
        judge.model(model)
    judge.rendering(map(ModelState, {model.id: model for model in page.items}.values()))
    if bodies := judge.secretless(data):
        assert _read(read_models, bodies[0]) == _read(read_models, bodies[1]), "a secret was read"


def steps(data: bytes) -> None:
    """Read a page of step metrics, and take the latest of each."""
    page = _read(read_steps, data)
    if page is None:
        return
    for row in page.items:
        judge.row(row)
    progress = latest(page.items, limit=_METRIC_LIMIT)
    assert (progress is None) == (not page.items)
    if progress is None:
        return
    names = sorted({name for row in page.items for name in row.metrics})
    assert progress.step == max(row.step for row in page.items)
    assert list(progress.metrics) == names[:_METRIC_LIMIT]
    assert progress.dropped == len(names[_METRIC_LIMIT:])
    for name, value in progress.metrics.items():
        highest = max(row.step for row in page.items if name in row.metrics)
        assert any(
            row.metrics[name] is value for row in page.items if row.step == highest and name in row.metrics
        )
    if is_descending(page.items):
        assert page.items[0].step == progress.step > page.items[-1].step
    judge.rendering([ModelState(FinetunedModel(id="m"), progress)])


def answers(data: bytes) -> None:
    """Read an answer as it comes, in two chunks, and take it for an error."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    status = int(first) if re.fullmatch(rb"[1-5][0-9][0-9]", first) else 500
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    response = httpx.Response(status, headers=headers, stream=_Chunks(body))
    try:
        read = asyncio.run(read_body(response, _BODY_LIMIT))
    except InvalidResponse as refusal:
        judge.line(refusal.message, _LONGEST_MESSAGE)
        return
    assert len(read) <= _BODY_LIMIT
    error = error_of(response, read, secret=KEY, now=1.7e9)
    judge.line(error.message, _LONGEST_MESSAGE)
    assert KEY not in error.message
    assert error.reason in REASONS
    assert error.retry_after is None or error.retry_after >= 0.0


def web_config(data: bytes) -> None:
    """Read a web configuration; a refusal is one line that repeats no value."""
    with tempfile.NamedTemporaryFile(dir=_memory()) as file:
        file.write(data)
        file.flush()
        try:
            config = read_config(Path(file.name))
        except ReloadError as refusal:
            message = str(refusal)
            assert message.isprintable()
            assert SECRET not in message
            assert len(message) < 1000
        else:
            assert all(map(str.isprintable, config.warnings()))


def requests(data: bytes) -> None:
    """Read requests whole and in pieces, and have them answered on a connection, each once and in order."""
    found = _requests(data, len(data) or 1)
    for size in (1, 7):
        again = _requests(data, size)
        assert list(map(_told, again)) == list(map(_told, found)), "what is read depends on how it arrives"
    for item in found:
        if isinstance(item, Response):
            assert item.status == 400
            continue
        assert item.method.isalpha() or item.method == "M-SEARCH"
        item.path.encode("utf-8", "surrogatepass")
        assert all(name == name.lower() for name in item.headers)
    assert all(isinstance(item, Request) and not item.is_last for item in found[:-1])
    answered = asyncio.run(_answered(data, 2 + len(found)))
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answered)] == [
        item.status if isinstance(item, Response) else 200 for item in found
    ]


def _told(item: Request | Response) -> Request | int:
    return item.status if isinstance(item, Response) else item


def _requests(data: bytes, size: int) -> list[Request | Response]:
    parser = RequestParser(1 << 20)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [item for piece in pieces for item in parser.feed(piece)]


async def _answered(data: bytes, turns: int) -> bytes:
    """Return what a client receives that sends `data` and no more."""
    ours, theirs = socket.socketpair()
    with theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        theirs.send(data)
        theirs.shutdown(socket.SHUT_WR)
        server = WebServer(lambda _: Response(200, {}), limits=Limits(head_bytes=1 << 20))
        server.serve(ours)
        async with asyncio.timeout(turns):
            while server.connections:  # noqa: ASYNC110 - each turn of the loop serves it
                await asyncio.sleep(0)
        await server.stop()
        return await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "models": models,
    "steps": steps,
    "answers": answers,
    "web_config": web_config,
    "requests": requests,
}
JSON_TARGETS = ("models", "steps")


def _read(read: Reader[T], body: bytes) -> Page[T] | None:
    """Read a body, and again; None when it is refused, which only `InvalidResponse` may do."""
    rejected: list[tuple[str, str]] = []
    again: list[tuple[str, str]] = []
    cache = PageCache(read)
    try:
        page = cache.read(body, lambda kind, name: rejected.append((kind, name)))
    except InvalidResponse as refusal:
        judge.line(refusal.message, _LONGEST_MESSAGE)
        return None
    cache.complete()
    cache.begin()
    assert cache.read(body, lambda kind, name: again.append((kind, name))) is page
    assert Counter(rejected) == Counter(again)
    for kind, name in rejected:
        assert kind in REJECTED_KINDS
        judge.text(name)
    page.next_token.encode()
    return page


class _Chunks(httpx.AsyncByteStream):
    """A body that comes in two chunks."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        half = len(self._body) // 2
        yield self._body[:half]
        yield self._body[half:]


def _memory() -> str | None:
    """Return a directory that lies in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a file of its own in it
