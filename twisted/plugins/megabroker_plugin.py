"""The ``megabroker`` command of twistd, imported only when it is used."""

from twisted.application.service import ServiceMaker

megabroker = ServiceMaker(  # type: ignore[no-untyped-call]
    "megabroker",
    "megabroker.tap",
    "A message broker: one durable log, served as Kafka, MEGA and cursus.",
    "megabroker",
)
