"""Where wire protocols plug in: modules ``<name>_plugin.py``, ours and those of other distributions.

A third-party distribution ships ``megabroker/plugins/<name>_plugin.py`` without an ``__init__.py`` beside it;
wherever on ``sys.path`` that directory is, it becomes part of this package.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))  # type: ignore[no-untyped-call]
__all__: list[str] = []
