"""`sinks.archive.writer`: what one archiver learns of another."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from sinks.archive.writer import _Chain
from tests.unit.sinks.archive.test_chain import append, progress


def chain(archive: Archive, writer: str) -> _Chain:
    observer: Any = Mock()
    return _Chain(archive, writer, read_tail(archive), Mock(), observer)


def test_of_two_idle_archivers_neither_believes_to_be_alone(tmp_path: Path) -> None:
    """They have no segment to write, so neither is refused; the head tells them of each other."""
    archive = Archive.open_or_make(f"file://{tmp_path}/archive", None, "shop")
    append(archive, (1, 9))
    one, other = chain(archive, "1" * 16), chain(archive, "2" * 16)
    found = []
    for number, mover in enumerate((one, one, other, one, other, one, one), 10):
        mover.move_head(progress(number))
        found.append(mover.alone)
    assert found == [False, True, False, False, False, False, True]
