"""`cdc setup` and `cdc teardown` on MySQL: SQL of least privilege, printed or executed. I/O in `run` alone."""

from __future__ import annotations

HEARTBEAT_TABLE = (
    "CREATE DATABASE IF NOT EXISTS cdc",
    "CREATE TABLE IF NOT EXISTS cdc.heartbeat (source varchar(64) PRIMARY KEY, token char(16) NOT NULL, "
    "at timestamp(6) NOT NULL) ENGINE = InnoDB CHARACTER SET ascii",
)
"""What a source writes to, so that the log brings its position and a commit time back."""
