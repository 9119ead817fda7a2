"""The rendered part of an exposition, ready plain and as the beginning of a gzip member.

A gzip member may hold any number of deflate blocks (RFC 1951), and its checksum can be carried on (RFC 1952).
So chunks are compressed one by one, a large one that has not changed is not compressed again, and the member
goes on with whatever ends the exposition.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no name, no time, unknown system
_LEVEL = 6
_SMALL = 32 * 1024  # bytes, the length of deflate's memory: alone, less than that would compress badly


class Chunk:
    """Some bytes, plain and, once asked for, deflated."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain

    @cached_property
    def deflated(self) -> bytes:
        """Deflate blocks that end on a byte boundary and refer to nothing before them."""
        return _deflate(self.plain, zlib.Z_SYNC_FLUSH)


class Payload:
    """Chunks in their order, plain and gzipped."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        merged = list(_merged(chunks))
        self._plain = tuple(chunk.plain for chunk in merged)
        self._gzipped = b"".join((_HEADER, *(chunk.deflated for chunk in merged)))
        self._size = sum(map(len, self._plain))
        self._checksum = 0
        for plain in self._plain:
            self._checksum = zlib.crc32(plain, self._checksum)

    def chunks(self, rest: bytes, *, gzipped: bool) -> Sequence[bytes]:
        """Return the chunks of the exposition that `rest` completes."""
        if not gzipped:
            return *self._plain, rest
        size = (self._size + len(rest)) & 0xFFFF_FFFF
        trailer = struct.pack("<II", zlib.crc32(rest, self._checksum), size)
        return self._gzipped, _deflate(rest, zlib.Z_FINISH) + trailer


def _merged(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Join neighbouring small chunks; yield large ones as they are."""
    for is_small, run in groupby(chunks, key=lambda chunk: len(chunk.plain) < _SMALL):
        if is_small:
            yield Chunk(b"".join(chunk.plain for chunk in run))
        else:
            yield from run


def _deflate(plain: bytes, flush: int) -> bytes:
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(plain) + deflate.flush(flush)
