"""Which requests need which permission, and what is answered to those who lack it.

As Apache Kafka's ``KafkaApis`` and ``ControllerApis`` have it. ``table`` is only looked into where access
rules decide. Produce, Fetch, ShareFetch and some requests whose answers leave things out ask by themselves.
"""
