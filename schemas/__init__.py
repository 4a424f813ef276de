"""Avro schemas of the public formats, one folder a version; never edited after release. Imports nothing of ours.

In: the name of a record. Out: its schema as JSON. `start` and `end` are the log's records, `event` a row event without
its table's columns. Tests check every record that the service writes against them.
"""

import json
from importlib.resources import files
from typing import Any


def load(name: str, version: int = 1) -> dict[str, Any]:
    """The schema of a record: `start`, `end` or `event`."""
    text = files(__name__).joinpath(f"v{version}/{name}.avsc").read_text()
    schema: dict[str, Any] = json.loads(text)
    return schema
