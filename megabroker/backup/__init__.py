"""Copies of data directories, of a broker that serves clients meanwhile.

What a broker has in its files is, at any moment, what it would go on from after a kill. A backup is the files
of one such moment: ``cut`` finds it, ``pins`` keeps the files of it from being removed while they are copied,
and ``copying`` makes a directory of them and opens it as a start would, so that it is closed in order.

The broker takes no part. What is needed of it is that it writes causes before effects: see ``cut``.
"""

__all__: list[str] = []
