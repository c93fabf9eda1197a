"""The MEGA wire protocol: topics of one partition, produced to and consumed from by offset."""

__all__: list[str] = []
