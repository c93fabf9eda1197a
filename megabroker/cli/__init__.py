"""The command ``megabroker``: what is done to a broker's files while it does not run, and asked of one that
runs.

The broker itself is run by ``twistd megabroker``. A command is a module with one ``click`` command;
``main`` lists them.
"""

__all__: list[str] = []
