"""What a process has cost: CPU seconds and memory, from /proc."""

from __future__ import annotations

import os
import pathlib

__all__ = ["cpu_seconds", "peak_mib", "resident_mib"]


def cpu_seconds(pid: int) -> float:
    """Return the time a process has spent on processors, in all threads it has now."""
    total_ns = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as times:
            total_ns += int(times.read().split()[0])
    return total_ns / 1e9


def peak_mib(pid: int) -> float:
    """Return the largest resident memory so far."""
    return _status_mib(pid, "VmHWM")


def resident_mib(pid: int) -> float:
    """Return the resident memory now."""
    return _status_mib(pid, "VmRSS")


def _status_mib(pid: int, name: str) -> float:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) / 1024
