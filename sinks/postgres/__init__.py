"""Apply whole source transactions to a Postgres database."""

from sinks.postgres.progress import PROGRESS_TABLES, Hold
from sinks.postgres.target import Writer

__all__ = ["PROGRESS_TABLES", "Hold", "Writer"]
