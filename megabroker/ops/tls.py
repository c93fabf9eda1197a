"""Whether Twisted brings TLS into this process.

Wherever pyOpenSSL is installed, Twisted imports it and all it needs for any TCP port at all: 13 MiB and
80 ms, a quarter of what an idle broker has and of what its start takes. A process that will never use it goes
without.
"""

from __future__ import annotations

import sys

__all__ = ["leave_out_tls"]


class _NoTls:
    """A finder of modules that answers who wants to import pyOpenSSL."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "OpenSSL":
            raise ImportError(
                "this process was started without TLS, which nothing it serves needed", name=name
            )


def leave_out_tls() -> bool:
    """Have Twisted do as it does where pyOpenSSL is not installed, for as long as the process lives.

    Returns:
        Whether TLS is left out; it is not where Twisted's transports, or pyOpenSSL, are imported already.
    """
    if "OpenSSL" in sys.modules or "twisted.internet.tcp" in sys.modules:
        return False
    sys.meta_path.insert(0, _NoTls())
    return True
