"""Topics: the list, one with its partitions, configurations, and what is done with it as a whole."""

from __future__ import annotations

from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.errors import ErrorCode
from megabroker.http.api.topics import known_topic, topic_totals
from megabroker.http.console.history import rates
from megabroker.http.console.page import Page
from megabroker.http.console.view import View
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer
from megabroker.model import Topic

__all__ = ["PAGES", "topic_page"]

_LIST: Final = "GET /v1/topics"
_ONE: Final = "GET /v1/topics/{topic}"
_PARTITIONS: Final = "GET /v1/topics/{topic}/partitions"
_CONFIGS: Final = "GET /v1/topics/{topic}/configs"
_CHANGE: Final = "PATCH /v1/topics/{topic}/configs"
_DELETE: Final = "DELETE /v1/topics/{topic}"
_GROW: Final = "POST /v1/topics/{topic}/partitions"
_TRUNCATE: Final = "POST /v1/topics/{topic}/partitions/{partition}/truncate"
_TOPICS_A_PAGE: Final = 25
_PARTITIONS_A_PAGE: Final = 50


# --- the list -----------------------------------------------------------------------------------------------


async def show_topics(view: View) -> Answer:
    """Topics, by name."""
    prefix = view.query("prefix")
    found, pager = await view.ask_page(_LIST, _TOPICS_A_PAGE, prefix=prefix[:249])
    rows = [{**row, **await _measured(view, row["name"])} for row in found["topics"]]
    return await view.page(
        "topics.html",
        "topics",
        topics=rows,
        prefix=prefix,
        **pager,
        may_create=_may_create(view),
        default_partitions=view.caller.broker.settings.topics.default_partitions,
    )


async def _measured(view: View, name: str) -> dict[str, Any]:
    """Return what a topic holds, and how many messages come to it in a second."""
    topic = view.caller.broker.topics.get(name)
    if topic is None:
        return {"size_bytes": 0, "messages": 0, "rate": None}
    known: Topic = topic

    async def take() -> dict[str, float]:
        return (await topic_totals(view.caller, known))._asdict()

    samples = await view.console.topics.of(topic.id).look(take)
    # A minute or so: what came before says little of now.
    growth = rates([one for one in samples[-6:] if samples[-1][0] - one[0] < 120], ("end",))
    now = samples[-1][1]
    rate = growth[-1]["end"] if growth else None
    return {"size_bytes": now["size_bytes"], "messages": now["messages"], "rate": rate}


def _may_create(view: View) -> bool:
    caller = view.caller
    return caller.may(Operation.CREATE, quiet=True) or caller.broker.authorizer.allowed_some(
        caller.principal, caller.host, Operation.CREATE, ResourceType.TOPIC
    )


async def create(view: View) -> Answer:
    """Make a topic."""
    name = view.form("name").strip()
    partitions = view.number("partitions", "the number of partitions", view.form("partitions"))
    body = {"name": name, "partitions": partitions, "configs": _written_configs(view.form("configs"))}
    await view.ask("POST /v1/topics", body=body)
    return view.to(f"/console/topics/{name}", said="topic-created")


def _written_configs(text: str) -> dict[str, str]:
    """Return configurations that are written a line each, with an equals sign. Raises Problem."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not line.strip():
            continue
        if not (equals and name.strip()):
            raise Problem(
                400,
                ErrorCode.INVALID_REQUEST,
                f"the configuration {line[:100]!r} cannot be read: expected name=value, one a line",
            )
        found[name.strip()] = value.strip()
    return found


# --- one ----------------------------------------------------------------------------------------------------


async def topic_page(view: View, template: str, tab: str, **values: Any) -> Answer:
    """Return a page of a topic, with what stands on all of them. Raises BrokerError (UNKNOWN_TOPIC)."""
    name = view.call.path["topic"]
    view.caller.need(Operation.DESCRIBE, ResourceType.TOPIC, name)
    topic = known_topic(view.caller, name)
    can = {
        "read": view.may("GET /v1/topics/{topic}/partitions/{partition}/messages", topic=name),
        "write": view.may("POST /v1/topics/{topic}/messages", topic=name),
        "configs": view.may(_CONFIGS, topic=name),
        "change": view.may(_CHANGE, topic=name),
        "grow": view.may(_GROW, topic=name),
        "delete": view.may(_DELETE, topic=name),
    }
    return await view.page(template, "topics", topic=topic, tab=tab, can=can, **values)


async def show_topic(view: View) -> Answer:
    """A topic and its partitions."""
    name = view.call.path["topic"]
    found, pager = await view.ask_page(_PARTITIONS, _PARTITIONS_A_PAGE, {"topic": name})
    return await topic_page(
        view,
        "topic.html",
        "partitions",
        partitions=found["partitions"],
        **pager,
        measured=await _measured(view, name),
    )


async def show_configs(view: View) -> Answer:
    """The configurations of a topic."""
    found = await view.ask(_CONFIGS, {"topic": view.call.path["topic"]})
    rows = sorted(found["configs"], key=lambda row: (not row["is_set"], row["name"]))
    changed = view.form("name")
    if view.error is not None and all(row["name"] != changed for row in rows):
        changed = ""
    return await topic_page(
        view, "topic_configs.html", "configs", configs=rows, changed=changed, entered=view.form("value")
    )


async def change_config(view: View) -> Answer:
    """Change a configuration of a topic, or have what holds otherwise take effect."""
    topic, name = view.call.path["topic"], view.form("name")
    value = None if view.form("do") == "unset" else view.form("value").strip()
    await view.ask(_CHANGE, {"topic": topic}, body={"configs": {name: value}})
    return view.to(f"/console/topics/{topic}/configs", said="saved")


async def show_settings(view: View) -> Answer:
    """Growing, emptying and deleting a topic."""
    return await topic_page(view, "topic_settings.html", "settings")


async def grow(view: View) -> Answer:
    """Give a topic more partitions."""
    topic = view.call.path["topic"]
    total = view.number("partitions", "the number of partitions", view.form("partitions"))
    await view.ask(_GROW, {"topic": topic}, body={"partitions": total})
    return view.to(f"/console/topics/{topic}", said="topic-grown")


async def truncate(view: View) -> Answer:
    """Delete the messages of a partition below an offset."""
    topic = view.call.path["topic"]
    partition = view.number("partition", "the partition", view.form("partition"))
    offset = view.number("offset", "the offset", view.form("offset"))
    if partition is None or offset is None:
        raise Problem(400, ErrorCode.INVALID_REQUEST, "a number is missing: expected partition and offset")
    _check_typed(view, topic)
    await view.ask(_TRUNCATE, {"topic": topic, "partition": partition}, body={"before_offset": offset})
    return view.to(f"/console/topics/{topic}", said="truncated")


async def delete(view: View) -> Answer:
    """Delete a topic."""
    topic = view.call.path["topic"]
    _check_typed(view, topic)
    await view.ask(_DELETE, {"topic": topic})
    return view.to("/console/topics", said="topic-deleted")


def _check_typed(view: View, name: str) -> None:
    """Raise Problem unless the name was typed in, so that nothing is deleted by a slip."""
    if view.form("confirm").strip() != name:
        raise Problem(400, ErrorCode.INVALID_REQUEST, f"nothing was deleted: expected its name, {name}")


_TOPIC: Final = "/console/topics/{topic}"

PAGES: Final = (
    Page("GET", "/console/topics", show_topics, "Topics.", query=("prefix", "page")),
    Page("POST", "/console/topics", create, "Make a topic.", query=("prefix", "page"), shows=show_topics),
    Page("GET", _TOPIC, show_topic, "A topic.", query=("page",)),
    Page("GET", f"{_TOPIC}/configs", show_configs, "Its configurations."),
    Page("POST", f"{_TOPIC}/configs", change_config, "Change one.", shows=show_configs),
    Page("GET", f"{_TOPIC}/settings", show_settings, "What is done with it as a whole."),
    Page("POST", f"{_TOPIC}/grow", grow, "Give it more partitions.", shows=show_settings),
    Page("POST", f"{_TOPIC}/truncate", truncate, "Delete old messages.", shows=show_settings),
    Page("POST", f"{_TOPIC}/delete", delete, "Delete it.", shows=show_settings),
)
