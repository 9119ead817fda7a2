"""The interpreter and the C library, set for a program that answers while it renders a large fleet."""

import ctypes
import gc
import sys

SWITCH_INTERVAL = 0.0001  # seconds
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's mallopt(3)
_LARGE = 128 * 1024  # bytes; glibc's own default, until the first large block is freed


def tune_interpreter() -> None:
    """Shorten what holds the interpreter lock, so that a scrape waits little for a poll of a large fleet."""
    # A scrape waits for the interpreter's lock at each write, by default 5 ms while another thread renders.
    sys.setswitchinterval(SWITCH_INTERVAL)
    # What stands by now stays, and the garbage collector need not go through it again and again.
    gc.freeze()


def give_back_large_blocks() -> None:
    """Return freed blocks of 128 KiB and more to the system at once.

    Otherwise glibc raises this limit with the largest block freed, up to 32 MiB, and then pages of a large
    fleet that were replaced leave holes that stay. Where there is no mallopt, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _LARGE)
