"""Apache Kafka's wire protocol."""

__all__: list[str] = []
