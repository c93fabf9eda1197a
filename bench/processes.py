"""What a process has cost: CPU seconds and memory, from /proc."""

from __future__ import annotations

import os
import pathlib

__all__ = ["cpu_seconds", "peak_mib", "resident_mib"]

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, all threads, user and system."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mib(pid: int) -> float:
    """Return the largest resident memory so far."""
    return _status_mib(pid, "VmHWM")


def resident_mib(pid: int) -> float:
    """Return the resident memory now."""
    return _status_mib(pid, "VmRSS")


def _status_mib(pid: int, name: str) -> float:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) / 1024
