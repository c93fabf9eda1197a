"""The environment variables of Kafka's container images, for who has set up tests by them.

Both ways: what programs under test look for to find a broker (``client_environment``), and what images are
configured by (``config_from_environment``). The image ``apache/kafka`` makes of ``KAFKA_NUM_PARTITIONS`` the
property ``num.partitions``: after the prefix, three underscores are a hyphen, two are one, and one is a dot.
Images of others do the same, some with the prefix ``KAFKA_CFG_``. Source: the image's usage guide.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Final

from megabroker.errors import ConfigError, Fault
from megabroker.kafkadir.server_properties import read_given

__all__ = ["client_environment", "config_from_environment"]

_PREFIXES: Final = ("KAFKA_CFG_", "KAFKA_")
_OF_THE_IMAGE: Final = re.compile(
    r"KAFKA_(HEAP_OPTS|OPTS|JVM_PERFORMANCE_OPTS|GC_LOG_OPTS|JMX_\w+|LOG4J_\w+|TOOLS_LOG4J_\w+|DEBUG|HOME|VERSION"
    r"|SCALA_VERSION|CLUSTER_ID|KRAFT_CLUSTER_ID|BOOTSTRAP_SERVERS?|BROKERS?|ENABLE_KRAFT)"
)
_OF_CLIENTS: Final = (
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_BOOTSTRAP_SERVER",
    "KAFKA_BROKERS",
    "BOOTSTRAP_SERVERS",
)
_QUIET: Final = re.compile(
    r"process\.roles|controller\..*|inter\.broker\.listener\.name|listener\.security\.protocol\.map"
    r"|(offsets\.topic|transaction\.state\.log|share\.coordinator\.state\.topic|default)\..*"
    r"(replication\.factor|min\.isr)|zookeeper\.connect"
)
"""What every set-up of one Kafka node has to say and one node here need not hear."""

_CLUSTER_IDS: Final = ("CLUSTER_ID", "KAFKA_CLUSTER_ID", "KAFKA_KRAFT_CLUSTER_ID")


def client_environment(bootstrap: str) -> dict[str, str]:
    """Return the variables in which programs look for a broker, each set to this one."""
    return dict.fromkeys(_OF_CLIENTS, bootstrap)


def config_from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration that variables of Kafka's images ask for, without those that have no effect.

    A variable that nothing here follows is named in a warning, with the reason if there is one. Without
    ``KAFKA_LOG_DIRS`` messages are kept in memory, and without ``KAFKA_LISTENERS`` a free port is taken.

    Raises:
        ConfigError: with every fault found, by the names of the properties.
    """
    properties: dict[str, str] = {}
    names: dict[str, str] = {}
    for variable, value in sorted(environ.items()):
        prefix = next((one for one in _PREFIXES if variable.startswith(one)), None)
        if prefix is None or _OF_THE_IMAGE.fullmatch(variable):
            continue
        name = _property(variable.removeprefix(prefix))
        properties[name] = value.strip()
        names[name] = variable
    faults: list[Fault] = []
    config, passed_over = read_given(properties, faults)
    if faults:
        raise ConfigError(faults, "the environment")
    for name, reason in passed_over.items():
        if not _QUIET.fullmatch(name):
            warnings.warn(f"{names[name]} ({name}) has no effect: {reason}", stacklevel=2)
    cluster_id = next((environ[one] for one in _CLUSTER_IDS if environ.get(one)), None)
    if cluster_id is not None:
        config.setdefault("node", {})["cluster_id"] = cluster_id
    return config


def _property(words: str) -> str:
    return re.sub("_{1,3}", lambda found: "._-"[len(found[0]) - 1], words).lower()
