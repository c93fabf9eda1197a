"""Running the broker: its log, later metrics, health and the HTTP administration."""

__all__: list[str] = []
