"""Clients that mean no good, as a process: `python -m tests.hostile_clients ATTACK[,ATTACK] PORT`.

It says `under way` once every client has connected, goes on until its standard input ends, and then tells as
JSON what befell the clients of each attack. An attack is what one client does with its socket, and how many
do it at once; who is turned out comes again. `ATTACK+tls` is the same within TLS, by a tenth of the clients.
"""

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

PAUSE = 0.5  # seconds before a client that was turned out comes again, or lets the next drop fall
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
# The beginning of one that says it is 131,000 bytes long: OpenSSL makes room for all of it.
HELLO = b"\x16\x03\x01\x00\x29\x01\x01\xff\xb8\x03\x03" + bytes(35)


class Client:
    """One connection, and the tally of all."""

    def __init__(self, sock: socket.socket, tally: Counter[str]) -> None:
        self.sock = sock
        self.tally = tally
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def take(self, count: int) -> bytes:
        return await self._loop.sock_recv(self.sock, count)

    async def take_all(self) -> None:
        while await self.take(1 << 18):
            pass

    async def drip(self, data: bytes) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            await self.send(data)

    async def sip(self, count: int, seconds: float) -> None:
        while await self.take(count):  # noqa: ASYNC110 - nothing is waited for
            await asyncio.sleep(seconds)


class TlsClient(Client):
    """The same within TLS, by streams."""

    async def shake_hands(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._reader, self._writer = await asyncio.open_connection(
            sock=self.sock, ssl=context, server_hostname="localhost", limit=4096
        )

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def take(self, count: int) -> bytes:
        return await self._reader.read(count)


async def silent(client: Client) -> None:
    await client.take(1)


async def hello(client: Client) -> None:
    """Begin a handshake, and go on with it byte by byte."""
    await client.send(HELLO)
    await client.drip(b"x")


async def loris(client: Client) -> None:
    await client.send(GET[:-2])
    await client.drip(b"X: y\r\n")


async def pipeline(client: Client) -> None:
    """Send thousands of requests in one write, and take no answer."""
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000)
    await asyncio.Event().wait()


async def scrape(client: Client) -> None:
    """Scrape as everybody does, and count the answers."""
    await client.send(GET[:-2] + b"Connection: close\r\n\r\n")
    if start := await client.take(1 << 16):
        client.tally[start[9:12].decode()] += 1
        await client.take_all()


async def trickle(client: Client) -> None:
    """Take one byte a second of a large page."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await client.send(GET)
    await client.sip(1, seconds=1)


async def sip(client: Client) -> None:
    """Take a little again and again, to seem alive."""
    await client.send(GET)
    await client.sip(1 << 18, seconds=0.9)


async def leave(client: Client) -> None:
    """Reset the connection in the middle of an answer."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.send(GET)
    await client.take(1 << 16)


ATTACKS: dict[str, tuple[Callable[[Client], Awaitable[None]], int]] = {
    "silent": (silent, 700),
    "hello": (hello, 600),
    "loris": (loris, 300),
    "pipeline": (pipeline, 150),
    "scrape": (scrape, 300),
    "trickle": (trickle, 600),
    "sip": (sip, 100),
    "leave": (leave, 100),
}


@dataclass
class Attack:
    """Many clients at once; `count` of them."""

    play: Callable[[Client], Awaitable[None]]
    count: int
    port: int
    client: type[Client]
    tally: Counter[str] = field(default_factory=Counter)

    async def run(self, attacking: asyncio.Barrier) -> None:
        """Begin; wait until all attacks have begun, and again until they are to end."""
        connected = asyncio.Semaphore(0)
        clients = [asyncio.create_task(self._come_and_go(connected)) for _ in range(self.count)]
        for _ in range(self.count):
            await connected.acquire()
        await attacking.wait()
        await attacking.wait()
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)

    async def _come_and_go(self, connected: asyncio.Semaphore) -> None:
        while True:
            with socket.socket() as sock, suppress(OSError):
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
                connected.release()
                self.tally["came"] += 1
                client = self.client(sock, self.tally)
                if isinstance(client, TlsClient):
                    await client.shake_hands()
                await self.play(client)
            await asyncio.sleep(PAUSE)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(attacks: dict[str, Attack]) -> None:
    attacking = asyncio.Barrier(len(attacks) + 1)
    async with asyncio.TaskGroup() as group:
        for attack in attacks.values():
            group.create_task(attack.run(attacking))
        await attacking.wait()
        say("under way")
        await asyncio.to_thread(sys.stdin.read)
        await attacking.wait()
    say(json.dumps({name: attack.tally for name, attack in attacks.items()}))


def attack(named: str, port: str) -> Attack:
    name, _, tls = named.partition("+")
    play, count = ATTACKS[name]
    if tls:  # handshakes cost these clients as much as the exporter
        return Attack(play, count // 10, int(port), TlsClient)
    return Attack(play, count, int(port), Client)


def main(names: str, port: str) -> None:
    os.nice(19)  # in life they would have a machine of their own
    asyncio.run(run({name: attack(name, port) for name in names.split(",")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
