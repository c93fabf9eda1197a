"""Brokers whose clients must say who they are, for tests."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.brokers import BrokerProcess

__all__ = ["addresses", "listener", "properties", "set_password"]

SCRAM = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}


def listener(name: str, **keys: Any) -> dict[str, Any]:
    """Return a listener at any free port."""
    return {"name": name, "endpoint": "tcp:0:interface=127.0.0.1", **keys}


def addresses(broker: BrokerProcess, protocol: str = "kafka") -> list[str]:
    """Return where a protocol is served, in the order of its listeners."""
    ready = re.findall(r"is ready after .*", broker.log)[-1]
    return re.findall(rf"{protocol} at (\S+?)[,;]", ready)


def set_password(admin: AdminClient, user: str, password: str, *mechanisms: str) -> None:
    """Give a user a password, for all mechanisms of SCRAM or some."""
    for mechanism in mechanisms or SCRAM:
        change = UserScramCredentialUpsertion(
            user, ScramCredentialInfo(SCRAM[mechanism], 4096), password.encode()
        )
        for done in admin.alter_user_scram_credentials([change]).values():
            done.result(10)


def properties(place: pathlib.Path, values: Mapping[str, str]) -> str:
    """Write a file of properties for Java; return its path."""
    place.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return str(place)
