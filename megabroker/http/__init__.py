"""Administration over HTTP: a server on twisted.web, and an API of JSON under ``/v1``."""

__all__: list[str] = []
