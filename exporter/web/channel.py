"""How bytes get into and out of a client's socket, in clear text or within TLS; no call here waits.

Responses go from shared bytes straight to the kernel, or to OpenSSL, and are never copied for a client.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

from exporter.web.tls import Tls

Chunks = Sequence[bytes | memoryview]
_READ = 4 * 1024  # bytes; little, because a request sent ahead takes time as soon as it is read
_RECORD = 16 * 1024  # bytes of TLS; read whole, so that OpenSSL keeps none back
_CHUNKS = 128  # for one system call, which takes 1,024
_ENCRYPTED = 1024 * 1024  # bytes sent in one turn of the event loop
_UNSENT = 256 * 1024  # bytes the kernel holds for a slow client
_UNBOUNDED = 2**31 - 1
_DROP = struct.pack("ii", 1, 0)
_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class HandshakeFailed(Exception):
    """The client is told why by OpenSSL's alert."""


class SpokeHttp(HandshakeFailed):
    """The client sent a request in clear text."""


class Channel:
    """A socket in clear text."""

    _at_once = _READ

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._fd = sock.fileno()
        self._reading = self._writing = self._is_bounded = False

    def watch(self, on_ready: Callable[[], None], *, reading: bool = False, writing: bool = False) -> None:
        """Let the event loop call `on_ready` when there is something to read, or room to write."""
        loop, fd = self._loop, self._fd
        if reading is not self._reading:
            self._reading = reading
            loop.add_reader(fd, on_ready) if reading else loop.remove_reader(fd)
        if writing is not self._writing:
            self._writing = writing
            loop.add_writer(fd, on_ready) if writing else loop.remove_writer(fd)

    def receive(self) -> bytes:
        """Return what has come, nothing at the end; raise OSError, as sockets do that would have to wait."""
        return self.sock.recv(self._at_once)

    def send(self, chunks: Chunks) -> int:
        """Send what there is room for and return how many bytes that were; raise OSError."""
        try:
            return self.sock.sendmsg(chunks[:_CHUNKS])
        except BlockingIOError:
            return 0

    def bound_kernel(self, *, bounded: bool) -> None:
        """Let the kernel buffer much of a response, which is fast, or little."""
        if bounded is not self._is_bounded and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self._is_bounded = bounded
            unsent = _UNSENT if bounded else _UNBOUNDED
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)

    def drop(self) -> None:
        """Let the next close drop what the kernel still has to send."""
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)

    def end(self) -> None:
        """End the sending half."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)


class EncryptedChannel(Channel):
    """A socket within TLS, which does not begin before `shake_hands` returns."""

    _at_once = _RECORD

    def __init__(self, sock: socket.socket, tls: Tls) -> None:
        self._tls = tls
        self._tls_sock = tls.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        super().__init__(self._tls_sock)

    def shake_hands(self) -> None:
        """Go on with the handshake; raise HandshakeFailed, or OSError for a client that may not come in."""
        try:
            self._tls_sock.do_handshake()
        except _WAIT:
            raise
        except ssl.SSLError as error:
            self._strip()
            raise (SpokeHttp if error.reason == "HTTP_REQUEST" else HandshakeFailed) from None
        if not self._tls.admits(self._tls_sock.getpeercert()):
            raise ConnectionRefusedError

    def send(self, chunks: Chunks) -> int:
        """Send some records; OpenSSL wants one for which there was no room to be given again as it was."""
        sent = 0
        with suppress(*_WAIT):
            for chunk in chunks:
                view = memoryview(chunk)
                for start in range(0, len(view), _RECORD):
                    record = view[start : start + _RECORD]
                    count = self.sock.send(record)
                    sent += count
                    if count < len(record) or sent >= _ENCRYPTED:
                        return sent
        return sent

    def end(self) -> None:
        """Announce the end, without waiting for the client to confirm it, and end the sending half."""
        if isinstance(self.sock, ssl.SSLSocket):
            with suppress(OSError):
                self.sock.unwrap()
            self._strip()
        super().end()

    def _strip(self) -> None:
        """Go on in clear text, on the same descriptor."""
        self.sock = socket.socket(fileno=self.sock.detach())
        self.sock.setblocking(False)


def rest(chunks: Chunks, sent: int) -> Chunks:
    """Return what is left of chunks after `sent` bytes, without a copy."""
    for number, chunk in enumerate(chunks):
        if sent < len(chunk):
            return [memoryview(chunk)[sent:], *chunks[number + 1 :]]
        sent -= len(chunk)
    return ()
