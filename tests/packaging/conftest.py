"""What builds and boots is left to `packaging/test`, which takes its time."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("MEGABROKER_PACKAGES_TEST") else ["machines"]
