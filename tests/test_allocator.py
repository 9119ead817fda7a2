"""Memory that large blocks took is the system's again once they are freed."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# The first block freed raises the limit of glibc; small ones that stay keep the heap from shrinking.
GROWN = """
import resource, sys
from pathlib import Path
from exporter.runtime.tuning import give_back_large_blocks

def resident():
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])

if sys.argv[1] == "given-back":
    give_back_large_blocks()
del (first := [bytearray(4 << 20)])[:]
before, kept = resident(), []
blocks = []
for _ in range(200):
    blocks.append(bytearray(b"x") * (200 << 10))
    kept.append(bytearray(b"x") * 1000)
blocks.clear()
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the limit is glibc's")
def test_large_blocks_are_given_back() -> None:
    def grown(how: str) -> int:
        ended = subprocess.run([sys.executable, "-c", GROWN, how], capture_output=True, text=True, check=True)
        return int(ended.stdout)

    assert grown("given-back") <= 2 < 20 < grown("kept")
