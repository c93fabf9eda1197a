"""SaslHandshake (key 17): chooses the SASL mechanism.

Version 0 is followed by bare SASL frames, version 1 by SaslAuthenticate. Never flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=17, versions="0-1"):
    mechanism: str = f.string()


class Response(f.Message, key=17, versions="0-1"):
    error_code: int = f.int16()
    mechanisms: list[str] = f.array(f.string)
