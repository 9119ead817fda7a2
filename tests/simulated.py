"""The simulated API as a transport of httpx: no sockets, and the same responses."""

import httpx

from exporter.simulator import Simulator


def transport_of(simulator: Simulator) -> httpx.MockTransport:
    """Return a transport whose requests the simulator answers."""

    async def handle(request: httpx.Request) -> httpx.Response:
        def header(name: str) -> str:
            return str(request.headers.get(name, ""))

        url = request.url
        response = await simulator.respond(request.method, url.path, url.query.decode(), header)
        return httpx.Response(
            response.status, headers=response.headers, stream=httpx.ByteStream(response.body)
        )

    return httpx.MockTransport(handle)
