"""The transaction coordinator: who a transactional producer is, what it wrote to, and how it ended."""

from __future__ import annotations

from megabroker.core.transactions.service import TransactionService
from megabroker.core.transactions.settings import TransactionSettings

__all__ = ["TransactionService", "TransactionSettings"]
