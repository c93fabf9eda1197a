"""Running the broker: its logs, its metrics, its memory, and what systemd is told."""

__all__: list[str] = []
