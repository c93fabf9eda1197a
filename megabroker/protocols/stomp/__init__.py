"""STOMP 1.0 to 1.2 over the shared log: the worked example of a protocol that is a plugin.

Imports of megabroker only what plugins may (``megabroker.plugin.PUBLIC_MODULES``); ``docs/stomp.md`` says
what becomes of what, ``docs/plugins.md`` how to write one's own.
"""

__all__: list[str] = []
