"""A broker that says what only a search for garbage could free; run by ``tests.load.test_garbage``.

    python garbage.py REPORT_FILE TWISTD_ARGUMENTS...

Nothing is searched for unless SIGUSR1 asks. Then a line is added to the report, a JSON object: ``found``, how
many pieces of garbage were in circles, by type; ``left_out`` and ``searched``, how many objects the next
search would pass over and how many it would look at.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.scripts import twistd

from megabroker.ops import collecting


def look(path: str) -> None:
    """Search, free what is found, and report it."""
    counts = {"left_out": gc.get_freeze_count(), "searched": len(gc.get_objects())}
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    with open(path, "a") as out:
        out.write(json.dumps({**counts, "found": dict(found.most_common(30))}) + "\n")


def main() -> None:
    """Run twistd in this process."""
    loop: Any = reactor
    path = sys.argv[1]

    def begin() -> None:
        if os.environ.get("SEARCH") != "1":
            collecting._LONG_SECONDS = float("inf")
            gc.collect()
            gc.disable()
        signal.signal(signal.SIGUSR1, lambda *_: loop.callFromThread(look, path))

    loop.callWhenRunning(begin)
    sys.argv = ["twistd", *sys.argv[2:]]
    twistd.run()


if __name__ == "__main__":
    main()
