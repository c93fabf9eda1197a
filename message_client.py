"""The MEGA client under the name its users import it by."""

from megabroker.client.mega import MessageClient

__all__ = ["MessageClient"]
