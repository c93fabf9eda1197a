"""Connections: transports, flow control, limits and listeners, shared by every wire protocol."""

__all__: list[str] = []
