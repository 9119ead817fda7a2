"""Golden files: what the exporter is expected to write, byte for byte, in `tests/golden/`.

`UPDATE_GOLDEN=1 pytest tests/test_families.py tests/test_telemetry.py` writes them anew from what the code
gives now; read the difference before committing it. Where `CI` is set nothing is ever written.
"""

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def is_updating() -> bool:
    """Return whether golden files are to be written instead of compared."""
    return os.environ.get("UPDATE_GOLDEN", "") not in ("", "0") and not os.environ.get("CI")


def assert_golden(name: str, actual: bytes) -> None:
    """Compare `actual` with the golden file `name`."""
    path = GOLDEN / name
    if is_updating():
        path.write_bytes(actual)
    assert path.exists(), f"{name} is not there; UPDATE_GOLDEN=1 writes it"
    assert actual.decode() == path.read_bytes().decode()
