"""Apply whole source transactions to a MySQL database."""

from sinks.mysql.progress import PROGRESS_TABLES, Hold
from sinks.mysql.target import Writer

__all__ = ["PROGRESS_TABLES", "Hold", "Writer"]
