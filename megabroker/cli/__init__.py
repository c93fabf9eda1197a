"""The command ``megabroker``: a broker in the foreground, what is asked of one that runs, and what is done to
the files of one that does not.

What runs is twistd's; what asks speaks Kafka's protocol, with Apache Kafka too. A command is a module with
one ``click`` command; ``main`` lists them.
"""

__all__: list[str] = []
