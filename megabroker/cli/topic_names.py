"""Names of topics: by regular expressions, and for a shell to complete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from megabroker.errors import BrokerError, ErrorCode, RequestError

__all__ = ["complete_topics", "matching", "matching_any", "pattern_of"]

_SECONDS = 1.0


def pattern_of(text: str) -> re.Pattern[str]:
    """Compile a regular expression. Raises click.UsageError, which says where it is wrong."""
    try:
        return re.compile(text)
    except re.error as error:
        raise click.UsageError(f"{text}: expected a regular expression ({error})") from None


def matching(metadata: Any, pattern: str | None) -> list[Any]:
    """Return the topics of an answer whose whole names match, by name; all of them for None."""
    compiled = None if pattern is None else pattern_of(pattern)
    found = [one for one in metadata.topics if compiled is None or compiled.fullmatch(one.name)]
    return sorted(found, key=lambda one: str(one.name))


def matching_any(metadata: Any, patterns: Sequence[str], *, required: bool = True) -> list[str]:
    """Return the names of topics that are not internal and match one of several expressions, in order.

    Raises:
        RequestError: there is none, and ``required`` says that there must be.
    """
    found = {one.name for text in patterns for one in matching(metadata, text) if not one.is_internal}
    if required and not found:
        raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"no topic matches {' or '.join(patterns)}")
    return sorted(found)


def complete_topics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the topics there are that begin so; none if the cluster does not answer at once."""
    from megabroker.cli.connecting import Connect, connection_keys

    given = {key: ctx.params.get(key) for key in connection_keys}
    try:
        with Connect(given, input_is_data=True).cluster(seconds=_SECONDS) as cluster:
            names = [one.name for one in cluster.metadata().topics if not one.is_internal]
    except (BrokerError, click.ClickException, OSError):
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
