"""The simulated API, served by this process: for the demo, the tests and the benchmarks."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from exporter.settings import ApiKey, Settings
from exporter.simulator import Simulator
from exporter.web.messages import Request, Response
from exporter.web.server import WebServer, listen


@asynccontextmanager
async def simulated_api(settings: Settings, key: ApiKey) -> AsyncIterator[Settings]:
    """Serve a simulated API that takes `key`, and yield the settings that point at it."""
    demo = settings.demo
    simulator = Simulator(api_key=key.read(), speed=demo.speed, seed=demo.seed, models=demo.models)
    async with serve_api(simulator, listen("127.0.0.1", 0)) as server:
        pointed = settings.cohere.model_copy(update={"base_url": f"http://127.0.0.1:{server.port}"})
        yield settings.model_copy(update={"cohere": pointed})


def serve_api(simulator: Simulator, listener: socket.socket) -> WebServer:
    """Return a server of a simulated API."""

    async def respond(request: Request) -> Response:
        response = await simulator.respond(request.method, request.path, request.query, request.header)
        return Response(response.status, response.headers, (response.body,))

    return WebServer(respond, listener)
