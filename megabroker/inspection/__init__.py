"""What is in the files of a broker that does not run: checked, told and, when asked for, repaired.

``findings`` are the values everything here speaks in; nothing prints. Reading is ``logs`` (one partition),
``places`` (a data directory's small files) and ``directories`` (all of it together); ``repair`` alone
changes anything, by opening the logs as a start does. ``dumping`` tells what single files hold.
"""

__all__: list[str] = []
