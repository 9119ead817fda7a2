"""Bytes that begin a page, ready plain and as the beginning of a gzip member.

A gzip member may hold any number of deflate blocks (RFC 1951), and its checksum can be carried on (RFC 1952).
So pieces compressed one by one stand in one member, a large piece that stays as it was is not compressed
again, and the member goes on with whatever ends the page.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no name, no time, unknown system
_LEVEL = 6
_SMALL = 32 * 1024  # bytes, the length of deflate's memory: alone, less than that would compress badly


class Piece:
    """Some bytes, plain and, once they were asked for, deflated."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain

    @cached_property
    def deflated(self) -> bytes:
        """Deflate blocks that end at a byte's end and lean on nothing before them."""
        return _deflate(self.plain, zlib.Z_SYNC_FLUSH)


class Block:
    """Pieces, one after the other."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        merged = list(_merged(pieces))
        self._plain = tuple(piece.plain for piece in merged)
        self._gzipped = b"".join((_HEADER, *(piece.deflated for piece in merged)))
        self._size = sum(map(len, self._plain))
        self._checksum = 0
        for plain in self._plain:
            self._checksum = zlib.crc32(plain, self._checksum)

    def page(self, rest: bytes, *, gzipped: bool) -> Sequence[bytes]:
        """Return the pieces of the page that this block and `rest` make together."""
        if not gzipped:
            return *self._plain, rest
        size = (self._size + len(rest)) & 0xFFFF_FFFF
        trailer = struct.pack("<II", zlib.crc32(rest, self._checksum), size)
        return self._gzipped, _deflate(rest, zlib.Z_FINISH) + trailer


def _merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join small pieces that stand side by side; give large ones as they are."""
    for is_small, run in groupby(pieces, key=lambda piece: len(piece.plain) < _SMALL):
        if is_small:
            yield Piece(b"".join(piece.plain for piece in run))
        else:
            yield from run


def _deflate(plain: bytes, flush: int) -> bytes:
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(plain) + deflate.flush(flush)
