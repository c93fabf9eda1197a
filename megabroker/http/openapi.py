"""The OpenAPI document (3.1), made of the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from megabroker import __version__
from megabroker.http.problems import PROBLEM, PROBLEM_TYPE
from megabroker.http.routes import PARAMETERS, Need, Route

__all__ = ["document", "told"]

_PROBLEMS = {
    "400": "The request is invalid; all faults are listed.",
    "401": "Authentication is required, or has failed.",
    "403": "The user may not do this.",
    "default": "The request failed.",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the description of all routes that belong to the API."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    problem = PROBLEM.describe(schemas)
    for route in routes:
        if not route.hidden:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "megabroker",
            "version": __version__,
            "summary": "Administration of a message broker.",
            "description": "Requests and answers are JSON. Lists have pages: repeat the request with "
            "page_token. Errors are problem details (RFC 9457).",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                name: {"description": text, "content": {PROBLEM_TYPE: {"schema": problem}}}
                for name, text in _PROBLEMS.items()
            },
            "securitySchemes": {
                "password": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARAMETERS[name][1],
            "schema": PARAMETERS[name][0].describe(schemas),
        }
        for name in route.parameters
    ]
    for name, field in route.query.items():
        described = getattr(field.kind, "of", field.kind).describe(schemas)
        if field.default is not None and isinstance(field.default, str | int | bool):
            described = {**described, "default": field.default}
        parameters.append(
            {"name": name, "in": "query", "required": False, "description": field.doc, "schema": described}
        )
    success: dict[str, Any] = {"description": route.summary}
    if route.answer is not None:
        success["content"] = {route.media: {"schema": route.answer.describe(schemas)}}
    elif route.media != "application/json":
        success["content"] = {route.media: {"schema": {"type": "string"}}}
    found: dict[str, Any] = {
        "operationId": route.handle.__name__,
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": parameters,
        "responses": {
            str(route.status): success,
            **{name: {"$ref": f"#/components/responses/{name}"} for name in _PROBLEMS},
        },
    }
    if route.may_be_empty:
        found["responses"]["204"] = {"description": route.may_be_empty}
    found["description"] = f"Permissions, with access rules: {told(route)}."
    if route.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": route.body.describe(schemas)}},
        }
    elif route.method in ("POST", "PUT", "PATCH"):
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}},
        }
    if not route.is_open:
        found["security"] = [{"password": []}, {"token": []}, {"certificate": []}, {}]
    return found


def _tag(route: Route) -> str:
    found = re.match(r"/v1/([a-z-]+)", route.path)
    return found[1] if found else "health"


def told(route: Route) -> str:
    """Say which permissions a route needs."""
    needs = [_told(need) for need in route.needs] + [route.asks] * bool(route.asks)
    return "; ".join(needs) or ("nothing; needs no authentication" if route.is_open else "nothing")


def _told(need: Need) -> str:
    of = f"the {need.parameter.replace('_', ' ')}" if need.parameter else "the cluster"
    return f"{need.operation.name} on {of}"
