"""Reading the topics that a Debezium connector writes: the same whole transactions, from another writer."""
