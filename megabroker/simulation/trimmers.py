"""A simulated administrator who has records deleted: below an offset, or all but so many bytes."""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.schema import delete_records, incremental_alter_configs
from megabroker.simulation.clients import Refused
from megabroker.simulation.consumers import Reader
from megabroker.simulation.history import Configured, DeletionAsked, Partition, StartSeen
from megabroker.simulation.wire import Unanswered

__all__ = ["Trimmer"]

_TOPIC: Final = 2
_SET: Final = 0


class Trimmer(Reader):
    """Deletes records of the topics that are for that."""

    async def run(self) -> None:
        """Client: delete, or change how much is kept."""
        while self.stage.open and self.stage.trimmed:
            partition = self.dice.choice(self.stage.trimmed)
            try:
                if self.dice.random() < 0.4:
                    await self._keep(partition[0], self.dice.choice((-1, 12_000, 30_000)))
                else:
                    await self._delete(partition)
                await self.start_of(partition)
            except (Unanswered, Refused) as error:
                self.stage.say(self.name, f"gives up: {error!r}")
            await self.sleep(self.dice.choice((0.2, 1.0)))

    async def _delete(self, partition: Partition) -> None:
        """Have what lies below some offset deleted. Raises Unanswered, Refused."""
        start = await self.start_of(partition)
        answer = await self.fetch(self.connection, partition, start, committed=False, wait_ms=50)
        end = int(answer.high_watermark)
        if answer.error_code or end <= start:
            return
        before = start + self.dice.randrange(1, min(end - start, 40) + 1)
        self.stage.note(DeletionAsked(self.stage.now, partition, before))
        kind = delete_records.Request.Topic
        topic = kind(
            name=partition[0], partitions=[kind.Partition(partition_index=partition[1], offset=before)]
        )
        sent = self.stage.now
        answer = await self.ask(21, 1, delete_records.Request(topics=[topic], timeout_ms=5000))
        row = answer.topics[0].partitions[0]
        if row.error_code:
            raise Refused(row.error_code)
        self.stage.note(StartSeen(self.stage.now, sent, self.name, partition, row.low_watermark))

    async def _keep(self, topic: str, retention_bytes: int) -> None:
        """Have so many bytes of each partition kept. Raises Unanswered, Refused."""
        self.stage.note(Configured(self.stage.now, topic, False, retention_bytes))
        kind = incremental_alter_configs.Request.Resource
        config = kind.Config(name="retention.bytes", config_operation=_SET, value=str(retention_bytes))
        resource = kind(resource_type=_TOPIC, resource_name=topic, configs=[config])
        request = incremental_alter_configs.Request(resources=[resource], validate_only=False)
        await self.insist(44, 1, lambda: request, lambda answer: answer.responses[0].error_code)
