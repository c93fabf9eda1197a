"""The configuration that is in force, as it would stand in the file, and what is worth a warning in it."""

from __future__ import annotations

from typing import Any, Final

from megabroker.access import Operation
from megabroker.config.endpoint import parse_endpoint
from megabroker.config.showing import document, yaml_text
from megabroker.http.caller import Caller
from megabroker.http.guarding import is_loopback
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import ANYTHING, ListOf, MapOf, Object, Text, required

__all__ = ["ROUTES", "describe_configuration", "warnings_of"]

_CONFIGURATION: Final = Object(
    {
        "configuration": required(MapOf(ANYTHING), "All keys and values; secrets are hidden."),
        "yaml": required(Text(), "The configuration as YAML, as in a file."),
        "warnings": required(ListOf(Text()), "Warnings about the configuration."),
    },
    "Configuration",
)


def describe_configuration(caller: Caller) -> dict[str, Any]:
    """Return the configuration that is in force."""
    settings = caller.broker.settings
    return {
        "configuration": document(settings),
        "yaml": yaml_text(settings),
        "warnings": warnings_of(caller),
    }


def warnings_of(caller: Caller) -> list[str]:
    """Return what is worth a thought in the configuration that is in force."""
    settings = caller.broker.settings
    found = []
    warning = getattr(settings.security, "warning", None)
    if warning:
        found.append(str(warning))
    if not any(protocol.enabled for protocol in settings.protocols.values()):
        found.append("no protocol is enabled")
    endpoint = parse_endpoint(settings.http.endpoint)
    is_reached = endpoint.address is None and not is_loopback(endpoint.interface)
    if is_reached and not settings.http_authenticates and settings.security.authorizer.value == "none":
        found.append(
            "http: everybody who can reach this machine may administer the broker, because no "
            "authentication is required"
        )
    if is_reached and settings.http.tls is None and settings.http_authenticates:
        found.append("http: passwords and tokens are sent over the network without TLS")
    if settings.storage.value == "memory":
        found.append("storage: messages are in memory only, and are lost when the broker stops")
    return found


def get_configuration(call: Call) -> Any:
    """Return the configuration that is in force."""
    return describe_configuration(call.caller)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/configuration",
        get_configuration,
        "The configuration in force.",
        _CONFIGURATION,
        needs=(Need(Operation.DESCRIBE_CONFIGS),),
    ),
)
