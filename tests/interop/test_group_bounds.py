"""What real clients are told where groups have reached their bounds."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log
from tests.interop.wires import until

pytestmark = pytest.mark.interop


def test_clients_are_told_and_those_there_are_go_on() -> None:
    with BrokerProcess({"durability": "os", "groups": {"max_offsets": 1, "max_groups": 1}}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("t", 2)])["t"].result(10)

        def consumer(group: str, protocol: str = "classic") -> Consumer:
            return Consumer(
                {
                    "bootstrap.servers": broker.kafka,
                    "group.id": group,
                    "group.protocol": protocol,
                    "enable.auto.commit": False,
                    "log_level": 0,
                }
            )

        first = consumer("g")
        for offset in (1, 2):
            (done,) = first.commit(offsets=[TopicPartition("t", 0, offset)], asynchronous=False)
            assert done.error is None
        with pytest.raises(KafkaException) as caught:
            first.commit(offsets=[TopicPartition("t", 1, 1)], asynchronous=False)
        assert caught.value.args[0].code() == KafkaError.INVALID_COMMIT_OFFSET_SIZE
        (found,) = first.committed([TopicPartition("t", 0)])
        assert found.offset == 2
        for protocol in ("classic", "consumer"):
            more = consumer(f"more-{protocol}", protocol)
            more.subscribe(["t"])
            message = until(lambda more=more: more.poll(0.1), 10, "the error")
            assert "has reached maximum size" in str(message.error())
            more.close()
        assert "groups.max_groups has refused" in broker.log
        assert "groups.max_offsets has refused 1 offset(s)" in broker.log
        first.subscribe(["t"])
        until(lambda: first.poll(0.1) is None and first.assignment(), 10, "the group that there is")
        first.close()
        assert broker.stop() == 0
        check_log(broker.log)
