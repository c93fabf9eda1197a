"""The later dialect of cursus: commands of ``name=value`` parameters, and batches of messages."""

__all__: list[str] = []
