"""What Linux tells of a process and of the machine: CPU seconds to the nanosecond, memory, a description."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

MIB = 1 << 20


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds, user and system, that a process has used in all its threads."""
    # What clock_getcpuclockid(3) computes; /proc counts in ticks of 10 ms, more than ten scrapes.
    return time.clock_gettime((~pid << 3) | 2)


def memory(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process in MiB: now, and the most it ever was."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kib = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if "kB" in rest
    }
    return kib["VmRSS"] * 1024 / MIB, kib["VmHWM"] * 1024 / MIB


def description() -> Mapping[str, str]:
    """Describe the machine, without its name."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "CPU": f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "Linux": ".".join(platform.release().split(".")[:2]),
        "Python": platform.python_version(),
    }
