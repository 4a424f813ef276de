"""Apply whole source transactions to a Postgres database."""

from sinks.postgres.progress import PROGRESS_TABLES, Hold
from sinks.postgres.tables import ExistingRows
from sinks.postgres.target import Target

__all__ = ["PROGRESS_TABLES", "ExistingRows", "Hold", "Target"]
