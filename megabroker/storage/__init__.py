"""Storage: the segmented log on disk, its memory twin, the metadata store. Imports nothing eagerly."""

__all__: list[str] = []
