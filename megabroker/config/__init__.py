"""Configuration: the schema as attrs classes, reading YAML against it, and comparing two configurations.

Owns what a key means, its unit, bounds and default. Never imports a plugin, never opens anything but the
configuration file, and never stops at the first fault. Plugin authors need two modules: ``fields`` (makers
of keys) and ``protocol`` (the base class of a protocol's settings).
"""

from __future__ import annotations

__all__ = ["diff", "endpoint", "fields", "kinds", "load", "protocol", "schema", "structure", "yaml_text"]
