"""The archive: the change log and base snapshots in object storage, and what is rebuilt from them."""
