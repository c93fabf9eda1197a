"""One module per Kafka request, its key in the name: what this broker answers and where versions differ."""

__all__: list[str] = []
