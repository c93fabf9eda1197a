"""The cursus wire protocol: text commands in length-prefixed frames."""

__all__: list[str] = []
