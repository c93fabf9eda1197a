"""The sources of chance of the process, as long as they are simulated.

Owns the replacement of what Python takes from the system: ``os.urandom``, whence come UUIDs and secrets,
and the module ``random``. Code that asks for chance in the usual ways then follows from the seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["decided_by"]


@contextmanager
def decided_by(seed: int) -> Iterator[None]:
    """Have all that is left to chance follow from ``seed`` until the context ends."""
    dice = random.Random(f"chance {seed}")
    module: Any = random
    kept = random.getstate(), os.urandom, module._urandom
    random.seed(f"random {seed}")
    os.urandom = module._urandom = dice.randbytes
    try:
        yield
    finally:
        random.setstate(kept[0])
        os.urandom, module._urandom = kept[1], kept[2]
