"""What plugins may use does not go or change unnoticed: all names and signatures are in a list.

A name that is new is no fault; ``python -m tests.contract.test_plugin_interface`` adds it. To take one out,
or to change one, is a new version of the interface: docs/plugins.md says how.
"""

from __future__ import annotations

import importlib
import inspect
import pathlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from zope.interface.interface import InterfaceClass, Method

from megabroker.plugin import INTERFACE_VERSION, OLDEST_INTERFACE_VERSION, PUBLIC_MODULES, misfit
from megabroker.testing.protocol import check_imports

LIST = pathlib.Path(__file__).parent / "plugin-interface.txt"
PLUGINS_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "plugins.md"
EXAMPLE = pathlib.Path(__file__).parents[1] / "plugin_example"
FOR_SUBCLASSES = {
    "BrokerConnection": (
        *(
            "make_reader",
            "handle",
            "farewell",
            "connection_closed",
            "turn_ended",
            "answer",
            "push",
            "reserve",
            "add_slot",
        ),
        *("unanswered", "mute", "may", "check_topic", "check_new_topic", "count_produced", "count_consumed"),
        *(
            "close",
            "finish",
            "abort",
            "fail",
            "proven",
            "output_is_full",
            "is_heard",
            "idle_exempt",
            "max_unanswered",
        ),
    ),
    "BrokerFactory": ("drain", "flush_soon"),
}
"""Of these classes, what plugins may use; the rest is between them."""

INSIDE = re.compile(
    r"megabroker\.interfaces\.(ILog|ILogListener|ILogStore|IMetadataStore|IWindowStore|IProducerState|IPeers"
    r"|ISharePeers|ITransactionPeers|ILoggers|IBrokerConfigs|IClientMetrics|ITakesRuns|IRun)\b"
)
"""Interfaces between the floors of the broker, which no protocol needs."""

NOT_OF_THE_LIST = ("megabroker.plugins", "megabroker.testing.child", "megabroker.testing.pytest_plugin")


def modules() -> Iterator[Any]:
    for name in PUBLIC_MODULES:
        module = importlib.import_module(name)
        yield module
        if name == "megabroker.testing":
            for info in pkgutil.iter_modules(module.__path__, f"{name}."):
                yield importlib.import_module(info.name)


def present() -> Iterator[str]:
    """Yield a line for each name, and for what each of them has."""
    for module in modules():
        if module.__name__ in NOT_OF_THE_LIST:
            continue
        for name in sorted(module.__all__):
            if INSIDE.match(f"{module.__name__}.{name}"):
                continue
            yield from described(f"{module.__name__}.{name}", getattr(module, name))


def described(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, InterfaceClass):
        yield name
        for attribute, what in sorted(value.namesAndDescriptions(all=True)):
            yield f"{name}.{attribute}" + (what.getSignatureString() if isinstance(what, Method) else "")
    elif inspect.isclass(value):
        # Values may get more fields; who is given one does not notice.
        is_value = name.startswith(("megabroker.model.", "megabroker.access."))
        yield name + ("" if is_value else signature(value))
        for attribute, what in sorted(members(value).items()):
            if not attribute.startswith("_") and attribute in FOR_SUBCLASSES.get(
                value.__name__, (attribute,)
            ):
                yield f"{name}.{attribute}" + (signature(what) if inspect.isfunction(what) else "")
    else:
        yield name + (signature(value) if callable(value) else "")


def members(value: type) -> dict[str, Any]:
    """Return what a class has, if it is to be inherited from with what our own bases of it have."""
    if value.__name__ not in FOR_SUBCLASSES:
        return dict(vars(value))
    ours = [base for base in reversed(value.__mro__) if base.__module__.startswith("megabroker.")]
    return {name: what for base in ours for name, what in vars(base).items()}


def signature(value: Any) -> str:
    """Return the names of arguments and which may be left out, which is what callers depend on."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parts = []
    for parameter in found.parameters.values():
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        suffix = "" if parameter.default is parameter.empty else "=..."
        if parameter.kind is parameter.KEYWORD_ONLY:
            suffix += " by name"
        parts.append(prefix + parameter.name + suffix)
    return f"({', '.join(parts)})"


def takes(now: str | None, before: str) -> bool:
    """Whether whatever was called with the arguments before can be so now: more of them may be left out."""
    if now is None or "(" not in before:
        return now is not None
    old, new = (line.partition("(")[2].rstrip(")").split(", ") for line in (before, now))
    old, new = ([part for part in parts if part] for parts in (old, new))
    return new[: len(old)] == old and all("=..." in part or part.startswith("*") for part in new[len(old) :])


def test_more_arguments_that_may_be_left_out_are_no_change() -> None:
    assert takes("m.f(a, b=..., c=... by name)", "m.f(a)")
    assert takes("m.f(a=...)", "m.f()")
    assert not takes("m.f(a, b)", "m.f(a)")
    assert not takes("m.f(b)", "m.f(a)")
    assert not takes(None, "m.f(a)")


def test_nothing_that_plugins_may_use_has_gone() -> None:
    listed = LIST.read_text(encoding="utf-8").splitlines()
    now = set(present())
    by_name = {line.partition("(")[0]: line for line in now}
    gone = sorted(line for line in set(listed) - now if not takes(by_name.get(line.partition("(")[0]), line))
    assert not gone, "these have gone, or have other arguments; see this test's docstring:\n" + "\n".join(
        gone
    )
    assert len(listed) > 400


def test_the_page_has_the_list_of_modules() -> None:
    page = PLUGINS_PAGE.read_text(encoding="utf-8")
    section = page[page.index("## Interface versions") :].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`([\w.]+)`", row)) == sorted(PUBLIC_MODULES)


def test_the_example_imports_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    check_imports("echo_line")


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        (INTERFACE_VERSION + 1, "expected a newer megabroker"),
        (OLDEST_INTERFACE_VERSION - 1, "expected a newer version of the plugin"),
        (None, "version None"),
        ("1", "version '1'"),
    ],
)
def test_versions_that_do_not_fit(version: object, complaint: str) -> None:
    assert complaint in str(misfit(version))


def test_versions_that_fit() -> None:
    assert misfit(INTERFACE_VERSION) is None
    assert misfit(OLDEST_INTERFACE_VERSION) is None


if __name__ == "__main__":
    known = set(LIST.read_text(encoding="utf-8").splitlines()) if LIST.exists() else set()
    LIST.write_text("\n".join(sorted(known | set(present()))) + "\n", encoding="utf-8")
