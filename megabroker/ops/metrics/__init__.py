"""Metrics for Prometheus: what they are called, where they are read, and how they are written.

Nothing in here is imported before somebody asks for metrics, but ``service``.
"""

__all__: list[str] = []
