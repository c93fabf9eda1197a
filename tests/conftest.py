"""What holds for all tests."""

from __future__ import annotations

import signal

# In the background of a shell SIGINT is ignored, and what tests start would inherit that and not end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
