"""The resources of the API, a module each: its routes, the JSON they take and answer, and how it is made."""

from __future__ import annotations

from collections.abc import Sequence

from megabroker.http.api import (
    acls,
    broker,
    configs,
    configuration,
    connections,
    group_offsets,
    groups,
    health,
    logging,
    messages,
    quotas,
    topics,
    transactions,
    users,
)
from megabroker.http.openapi import document
from megabroker.http.routes import Call, Route
from megabroker.http.schema import ANYTHING, MapOf

__all__ = ["all_routes", "health_routes"]

_RESOURCES = (
    broker,
    topics,
    messages,
    groups,
    group_offsets,
    configs,
    transactions,
    users,
    acls,
    quotas,
    connections,
    logging,
    configuration,
)


def health_routes() -> Sequence[Route]:
    """Return the routes that every process of a broker has."""
    return health.ROUTES


def all_routes() -> Sequence[Route]:
    """Return all routes."""
    routes: list[Route] = [*health.ROUTES]
    for resource in _RESOURCES:
        routes += resource.ROUTES

    def get_openapi(call: Call) -> object:
        return document(routes)

    routes.append(
        Route("GET", "/v1/openapi.json", get_openapi, "This OpenAPI document.", MapOf(ANYTHING), is_open=True)
    )
    return routes
