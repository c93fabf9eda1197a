"""Topics: which there are, what is set on them, and the partitions this node leads."""

from megabroker.core.topics.rows import TOPICS_TABLE, is_topic_name, topic_from_row, topic_row
from megabroker.core.topics.service import TopicLimits, TopicService

__all__ = ["TOPICS_TABLE", "TopicLimits", "TopicService", "is_topic_name", "topic_from_row", "topic_row"]
