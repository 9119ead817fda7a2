"""The API as a process of its own, answering from prepared bytes so that it is never what is waited for.

`GET /-/control?changing=1&hold=1&latency=0.05` sets how it behaves; `GET /-/stats` tells what it has served.
While `changing`, each list read from its beginning differs in every model from the one before; while on
`hold`, a list waits for its answer. It speaks just enough HTTP/1.1: requests without a body, one at a time.
"""

import argparse
import asyncio
import json
from collections import Counter
from typing import cast
from urllib.parse import parse_qs, urlsplit

from tools.benchmarks.fleets import FULL, LEAN, TIDES, Fleet

MODELS = "/v1/finetuning/finetuned-models"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Api:
    """What is answered, and when."""

    def __init__(self, fleet: Fleet) -> None:
        self._tides = [fleet.pages(tide) for tide in range(TIDES)]
        self._steps = fleet.steps()
        self._tide = 0
        self._changing = False
        self._held: list[Connection] | None = None
        self.latency = 0.0
        self._served: Counter[str] = Counter(lists=0, steps=0)

    def answer(self, target: str, connection: "Connection") -> None:
        """Answer a request on its connection, now or later."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == "/-/control":
            self._control(query)
            connection.send(b"{}")
        elif url.path == "/-/stats":
            connection.send(json.dumps(self._served).encode())
        elif url.path != MODELS:
            self._served["steps"] += 1
            model_id = url.path.removeprefix(f"{MODELS}/").partition("/")[0]
            connection.send(self._steps[model_id], self.latency)
        elif number := int(query.get("page_token", 0)):
            self._page(number, connection)
        elif self._held is None:
            self._begin(connection)
        else:
            self._held.append(connection)

    def _control(self, query: dict[str, str]) -> None:
        self._changing = bool(int(query.get("changing", self._changing)))
        self.latency = float(query.get("latency", self.latency))
        held, self._held = self._held or [], [] if query.get("hold") == "1" else None
        for connection in held:
            self._begin(connection)

    def _begin(self, connection: "Connection") -> None:
        self._tide = (self._tide + self._changing) % TIDES
        self._page(0, connection)

    def _page(self, number: int, connection: "Connection") -> None:
        pages = self._tides[self._tide]
        self._served["lists"] += number == len(pages) - 1
        connection.send(pages[number], self.latency)


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take what came; answer once a head is whole."""
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            target = self._received.split(b" ", 2)[1].decode()
            self._received = b""
            self._api.answer(target, self)

    def send(self, body: bytes, after: float = 0.0) -> None:
        """Send an answer, `after` so many seconds."""
        answer = (_HEAD % len(body)) + body
        if after:
            asyncio.get_running_loop().call_later(after, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def main() -> None:
    """Serve until ended; the first line of standard output is the port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=(LEAN, FULL))
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    api = Api(Fleet(arguments.kind, arguments.count))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(api), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
