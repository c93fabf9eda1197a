"""Every request at every version that Apache Kafka's Java client knows, one scenario a request.

``exchange`` sends and decodes with the client's generated classes; the other modules hold the scenarios: what
is asked, and what a right answer looks like. The same scenarios hold for Apache Kafka itself.
"""
