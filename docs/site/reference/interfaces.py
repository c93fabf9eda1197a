"""Every interface, from its source: zope's own description of a method has no types."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator

from sphinx.ext.napoleon import Config, GoogleDocstring

from megabroker import interfaces
from reference.rest import described

__all__ = ["text"]

_NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)


def text() -> str:
    """Return the page, without its title."""
    return ".. py:currentmodule:: megabroker.interfaces\n\n" + "\n".join(map(_interface, _classes()))


def _classes() -> Iterator[ast.ClassDef]:
    for info in pkgutil.iter_modules(interfaces.__path__, f"{interfaces.__name__}."):
        tree = ast.parse(inspect.getsource(importlib.import_module(info.name)))
        yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def _interface(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases if ast.unparse(base) != "Interface")
    body = [_docstring(node), *_members(node)]
    return described("py:class", f"{node.name}({bases})" if bases else node.name, body)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef):
            returns = f" -> {ast.unparse(member.returns)}" if member.returns else ""
            signature = f"{member.name}({ast.unparse(member.args)}){returns}"
            yield described("py:method", signature, [_docstring(member)])
        elif isinstance(member, ast.Assign | ast.AnnAssign):
            target = member.targets[0] if isinstance(member, ast.Assign) else member.target
            value = member.value
            if isinstance(value, ast.Call) and value.args:
                said = str(ast.literal_eval(value.args[0]))
                yield described("py:attribute", ast.unparse(target), [said])


def _docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    return str(GoogleDocstring(textwrap.dedent(ast.get_docstring(node) or ""), _NAPOLEON))
