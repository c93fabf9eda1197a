"""Plugs in Apache Kafka's protocol."""

from megabroker.plugin import INTERFACE_VERSION, ProtocolPlugin

__all__ = ["kafka"]

kafka = ProtocolPlugin(
    name="kafka",
    default_endpoint="tcp:9092:interface=127.0.0.1",
    settings="megabroker.protocols.kafka.settings.KafkaSettings",
    version=INTERFACE_VERSION,
    factory="megabroker.protocols.kafka.protocol.make_factory",
    own_ports=True,
    needs_tls=False,
)
