"""Wire protocols, one package each: adapters between bytes on a connection and the broker core."""

__all__: list[str] = []
