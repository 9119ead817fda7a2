"""How much free memory the C library keeps."""

import ctypes

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's mallopt(3)
_LARGE = 128 * 1024  # bytes; glibc's own default, until the first large block is freed


def give_back_large_blocks() -> None:
    """Return freed blocks of 128 KiB and more to the system at once.

    Otherwise glibc raises this limit with the largest block freed, up to 32 MiB, and then pages of a large
    fleet that were replaced leave holes that stay. Where there is no mallopt, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _LARGE)
