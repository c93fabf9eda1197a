"""ChangeTopic (1002, between processes): make, grow or delete a topic for another process.

**Behaviour.** The answer comes when the change is committed and, as far as they can be reached, followed by
all processes, the one that asks among them.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.model import TopicChange
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import change_topic
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]


async def handle(context: Context, request: change_topic.Request) -> change_topic.Response:
    """Answer when it is done or refused."""
    topics = context.broker.topics
    try:
        if request.kind == TopicChange.CREATE:
            configs = {config.name: config.value for config in request.configs}
            await topics.create(request.name, request.partitions, configs)
        elif request.kind == TopicChange.GROW:
            await topics.create_partitions(request.name, request.partitions)
        else:
            await topics.delete(request.name)
    except BrokerError as error:
        return change_topic.Response(error=told(error))
    return change_topic.Response()
