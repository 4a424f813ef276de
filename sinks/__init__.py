"""Readers of what the source publishes. `TransactionReader` is public: write your own consumers on it."""

from sinks.reader import TransactionReader
from sinks.transaction import ChangeTransaction, Progress

__all__ = ["ChangeTransaction", "Progress", "TransactionReader"]
