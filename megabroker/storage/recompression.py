"""Batches in the codec their topic asks for (``compression.type``), whatever their producer chose.

Owns that one step before a batch is accepted. It is done at once, in the reactor, so that offsets are given
out in the order batches came: of each megabyte it takes 2 to 6 ms with lz4, snappy and zstd as they are by
default, 16 to 100 ms with gzip, 60 ms with the high levels of lz4, 700 ms with those of zstd (measured with
JSON). Large batches of Kafka's producers come in that codec already: their connection has had it done.
"""

from __future__ import annotations

from megabroker.codec.batch import MAX_DECOMPRESSED_BYTES
from megabroker.codec.rewriting import recompressed
from megabroker.errors import ErrorCode, ProtocolError, RequestError
from megabroker.model import BatchHeader, Buffer, LogSettings

__all__ = ["in_codec"]


def in_codec(
    settings: LogSettings, header: BatchHeader, data: bytearray | memoryview
) -> tuple[BatchHeader, bytearray | memoryview]:
    """Return a batch in the codec of ``settings``, and its header; both as they are if they are in it.

    Raises:
        RequestError: INVALID_RECORD when the records cannot be read, MESSAGE_TOO_LARGE when the batch is too
            large in that codec.
    """
    codec = settings.codec
    if codec is None or codec == header.compression:
        return header, data
    source: Buffer = data
    try:
        header, fresh = recompressed(header, source, codec, settings.codec_level, MAX_DECOMPRESSED_BYTES)
    except ProtocolError as error:
        raise RequestError(ErrorCode.INVALID_RECORD, str(error)) from None
    if len(fresh) > settings.max_batch_bytes:
        raise RequestError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"a batch of {len(data)} bytes takes {len(fresh)} in the codec of its topic, which takes "
            f"{settings.max_batch_bytes}",
        )
    return header, fresh
