"""What the connection speaks, and who the client is: PROTOCOL_INFO, NEGOTIATE, AUTH, HELP.

Owns the features there are, each a promise of its own. Source: the original's wire specification, "Protocol
Discovery and Negotiation".
"""

from __future__ import annotations

import re
from typing import Final

from megabroker.protocols.cursus.later.calling import Call, Reply
from megabroker.protocols.cursus.later.parsing import given
from megabroker.protocols.cursus.later.refusals import CLASSES, Refusal, quoted
from megabroker.protocols.cursus.later.words import WORDS

__all__ = [
    "FEATURES",
    "OPEN_TO_ALL",
    "STRUCTURED_ERRORS",
    "authenticate",
    "credentials",
    "info",
    "list_commands",
    "negotiate",
]

STRUCTURED_ERRORS: Final = "structured_errors_v1"

FEATURES: Final = (
    "event_sourcing_v1",
    "idempotent_producer_v1",
    "offset_resume_v1",
    "stream_control_v1",
    STRUCTURED_ERRORS,
    "topic_compaction_v1",
)
"""What may be agreed on, sorted."""

OPEN_TO_ALL: Final = frozenset({"HELP", "PROTOCOL_INFO", "NEGOTIATE"})
"""What is answered whoever asks."""

_VERSION: Final = 1
_MOST_FEATURES: Final = 64
_feature = re.compile(r"[a-z0-9_]{1,64}", re.ASCII).fullmatch


def credentials(word: str, text: bytes) -> tuple[str, str] | None:
    """Return who a command says its client is, and the proof; None if it does not say both."""
    secret = "token" if word == "AUTH" else "auth_token"
    try:
        found = given(WORDS[word], text) if word in WORDS else {}
        user, password = (found.get(name, b"").decode() for name in ("principal", secret))
    except (UnicodeDecodeError, Refusal):
        return None
    return (user, password) if user and password else None


async def info(call: Call) -> Reply:
    """PROTOCOL_INFO."""
    classes = ",".join(sorted({found.name for found in CLASSES.values()}))
    return (
        f"OK protocol=cursus min_version={_VERSION} max_version={_VERSION} default_version={_VERSION} "
        f"features={','.join(FEATURES)} error_classes={classes}"
    )


async def negotiate(call: Call) -> Reply:
    """NEGOTIATE: what is refused changes nothing."""
    if call["version"] != _VERSION:
        raise Refusal("UNSUPPORTED_PROTOCOL_VERSION", requested=call["version"], min=_VERSION, max=_VERSION)
    wanted = call["features"]
    names = sorted(FEATURES if wanted == "*" else {name for name in wanted.split(",") if name})
    if len(names) > _MOST_FEATURES or not all(map(_feature, names)):
        expected = f"up to {_MOST_FEATURES} names of a-z, 0-9 and _, 64 characters each, or *"
        raise Refusal("invalid_protocol_features", value=quoted(wanted), expected=quoted(expected))
    unsupported = [name for name in names if name not in FEATURES]
    if unsupported and call["require_features"]:
        raise Refusal("UNSUPPORTED_FEATURE", features=",".join(unsupported))
    enabled = [name for name in names if name in FEATURES]
    call.dialect.features = frozenset(enabled)
    return f"OK protocol_version={_VERSION} enabled={','.join(enabled)} unsupported={','.join(unsupported)}"


async def authenticate(call: Call) -> Reply:
    """AUTH, where nobody has to, or by who has already."""
    client = call.client
    if client.authenticates and call["principal"] == client.principal.name:
        return f"OK principal={client.principal.name} authenticated=true"
    raise Refusal("authentication_failed", mechanism="PLAIN")


async def list_commands(call: Call) -> Reply:
    """HELP."""
    return f"OK commands={','.join(WORDS)}"
