"""A configuration with some of its keys replaced: what is in force when administrators have changed a broker.

Owns that replacement only; the values are checked by whoever takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from megabroker.config.schema import Config

__all__ = ["overlaid"]


def overlaid(config: Config, topic_defaults: Mapping[str, str], keys: Mapping[str, Any]) -> Config:
    """Return ``config`` with other defaults of topics and other keys.

    Args:
        topic_defaults: by the name of the topic configuration.
        keys: by dotted path.
    """
    changed = attrs.evolve(config, topics=config.topics.with_configs(topic_defaults))
    for path, value in keys.items():
        section, key = path.split(".")
        changed = attrs.evolve(changed, **{section: attrs.evolve(getattr(changed, section), **{key: value})})
    return changed
