"""The broker itself: topics, partitions, producers, deduplication, placement and groups.

Knows no wire, no codec and no concrete storage: it speaks to the interfaces of ``megabroker.interfaces`` and
everything it needs is handed to it.
"""

__all__: list[str] = []
