"""Why a test fails that cannot pass: what it asks for, and that Apache Kafka fails it too where it does."""

from __future__ import annotations

__all__ = ["REASONS", "reason"]

REASONS: dict[str, dict[str, str]] = {}
"""Sentences by suite and by part of a test's name."""


def reason(suite: str, test: str) -> str | None:
    """Return why this test fails, if that is known."""
    return next((text for part, text in REASONS.get(suite, {}).items() if part in test), None)
