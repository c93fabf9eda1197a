"""An error of the broker as its processes tell it to each other, whole."""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError, StorageError
from megabroker.protocols.kafka.schema import fields as f

__all__ = ["ToldError", "error_of", "told"]

_KINDS = (BrokerError, RequestError, StateError, StorageError)
_MAX_CHARS = 5000


class ToldError(f.Struct):
    """``kind`` is the place of the class in a list, ``code`` the name of the code."""

    kind: int = f.int8()
    code: str = f.string()
    message: str = f.string()
    retriable: bool = f.boolean()


def told(error: BrokerError | None) -> ToldError | None:
    """Return what stands for an error on the wire."""
    if error is None:
        return None
    kind = max(number for number, one in enumerate(_KINDS) if isinstance(error, one))
    return ToldError(
        kind=kind, code=error.code.value, message=error.message[:_MAX_CHARS], retriable=error.retriable
    )


def error_of(found: ToldError | None) -> BrokerError | None:
    """Return a new error for what stands for it; one that is not known is INTERNAL."""
    if found is None:
        return None
    try:
        code = ErrorCode(found.code)
    except ValueError:
        code = ErrorCode.INTERNAL
    kind = _KINDS[found.kind] if 0 <= found.kind < len(_KINDS) else BrokerError
    return kind(code, found.message, retriable=found.retriable)
