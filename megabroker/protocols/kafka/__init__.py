"""Apache Kafka's wire protocol: ``protocol`` the connection, ``apis`` one module per request, ``schema`` the tables."""

__all__: list[str] = []
