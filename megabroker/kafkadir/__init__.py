"""Data directories of Apache Kafka: what is in them, and making them ours.

A directory is read as a KRaft broker left it: which topics there are and their ids, configurations, committed
offsets of groups, transactional ids. Nothing here runs while the broker serves.
"""

__all__: list[str] = []
