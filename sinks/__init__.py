"""Readers of what the source publishes. These names are public: write your own consumers on them."""

from cdc.registry import Registry, RegistryServer
from sinks.reader import TransactionReader
from sinks.transaction import ChangeTransaction, Progress

__all__ = ["ChangeTransaction", "Progress", "Registry", "RegistryServer", "TransactionReader"]
