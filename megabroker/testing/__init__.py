"""For tests: of programs that use a broker, and of protocols that plug into one.

Nothing in here runs in a broker that was started in any other way. What it exports is imported when it is
asked for, because pytest imports this package at every start.
"""

from __future__ import annotations

__all__: list[str] = []
