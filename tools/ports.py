"""Ports of the loopback for programs that cannot choose one themselves."""

import socket


def unused_port() -> int:
    """Return a port of the loopback that refuses connections, kept for this process until it ends.

    Nobody else is given it. A program can still listen there, since like all servers it sets SO_REUSEADDR and
    this socket does not listen.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    holder.detach()  # the descriptor stays open and holds the port
    return port
