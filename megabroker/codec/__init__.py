"""Sans-IO codecs shared by storage and protocols: framing, primitives, record batches, compression."""

__all__: list[str] = []
