"""Why a test fails that cannot pass: what it asks for, and whether Apache Kafka fails it too."""

from __future__ import annotations

__all__ = ["REASONS", "reason"]

_EMPTY = (
    "node-rdkafka hands an empty key or value to its caller as null; the same test fails against Apache Kafka"
)

REASONS: dict[str, dict[str, str]] = {
    "kafka-python": {
        "test_create_describe_delete_acls": (
            "the broker has no authorizer, which is its default: ACLs are refused as SECURITY_DISABLED. The "
            "same test fails against Apache Kafka without one"
        ),
    },
    "node-rdkafka": {
        "empty buffer key and empty value": _EMPTY,
        "empty key and empty value": _EMPTY,
        "with an empty payload and empty key": _EMPTY,
    },
}
"""Sentences by suite and by part of a test's name."""


def reason(suite: str, test: str) -> str | None:
    """Return why this test fails, if that is known."""
    return next((text for part, text in REASONS.get(suite, {}).items() if part in test), None)
