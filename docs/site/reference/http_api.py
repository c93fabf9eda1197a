"""Every address of the HTTP API, and the JSON that goes both ways, from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from megabroker.http.api import all_routes
from megabroker.http.openapi import document
from reference.rest import described, heading, plain

__all__ = ["text"]

_LARGEST = (1 << 63) - 1


def text() -> str:
    """Return the page, without its title."""
    told = document(all_routes())
    return "".join(_pieces(told))


def _pieces(told: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            found = _operation(f"{method.upper()} {path}", operation)
            by_tag.setdefault(operation["tags"][0], []).append(found)
    for tag, operations in by_tag.items():
        yield heading(tag, "-")
        yield from operations
    yield heading("Objects", "-") + "The JSON objects in the bodies of requests and answers.\n\n"
    for name, schema in told["components"]["schemas"].items():
        yield f".. _http-{name.lower()}:\n\n"
        yield described("describe", name, _properties(schema))


def _operation(address: str, operation: Mapping[str, Any]) -> str:
    parts = [plain(operation["summary"])]
    fields = []
    for parameter in operation["parameters"]:
        where = {"path": "In the path", "query": "Query"}[parameter["in"]]
        what = f"{plain(parameter['description'])} ({_kind(parameter['schema'])})"
        fields.append(f":{where} {parameter['name']}: {what}")
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        if schema.get("$ref") or schema.get("properties"):
            fields.append(f":Body: {_kind(schema)}")
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            fields.append(f":{status}: {_answer(answer)}")
    needs = operation["description"].partition(": ")[2].rstrip(".")
    fields.append(f":Permissions, with access rules: {plain(needs)}")
    return described("describe", address, [*parts, "\n".join(fields)])


def _answer(answer: Mapping[str, Any]) -> str:
    for media, content in answer.get("content", {}).items():
        kind = _kind(content["schema"])
        return kind if media == "application/json" else f"{kind}, {media}"
    return plain(answer["description"]) if answer.get("description", "").startswith("With") else "nothing"


def _properties(schema: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        said = plain(inner.get("description", ""))
        note = "" if name in required else " Optional."
        yield f"``{name}`` ({_kind(inner)}): {said}{note}"
        if nested := inner.get("items", {}).get("properties"):
            yield "\n".join(
                f"- ``{part}`` ({_kind(of)}): {plain(of.get('description', ''))}"
                for part, of in nested.items()
            )


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON Schema admits, with links to the objects."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f":ref:`{name} <http-{name.lower()}>`"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(choice) for choice in choices)
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(_kind({**schema, "type": one}) for one in kind)
    if "enum" in schema:
        return "one of " + ", ".join(f"``{word}``" for word in schema["enum"])
    default = (
        f", default ``{_json(schema['default'])}``" if schema.get("default") not in (None, "", [], {}) else ""
    )
    if kind == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object, values: {_kind(values)}" if isinstance(values, dict) and values else "object"
    return f"{kind or 'anything'}{_bounds(schema)}{default}"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return ""
    if high is None or high == _LARGEST:
        return f", at least {low}" if low is not None and low > -_LARGEST - 1 else ""
    return f", {low} to {high}" if low is not None and low > -_LARGEST - 1 else f", at most {high}"


def _json(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
