"""The test suites that Kafka clients publish with themselves, run against this broker or Apache Kafka.

Nothing of them is kept here: each is brought by its name from its language's registry into ``.cache/suites``
and run as its authors run it, one process that is told where the broker is. See ``__main__``.
"""
