"""Apache Kafka's wire protocol.

``protocol`` is the connection, ``dispatch`` says what is served, ``apis`` has one module per request and
``schema`` the tables they are decoded by.
"""

__all__: list[str] = []
