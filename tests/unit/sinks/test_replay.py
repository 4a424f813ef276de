"""A row that the target does not have is named, in a few words however long it is."""

from typing import Any

import pytest

from cdc.errors import APPLY_FAILED, ROW_DIVERGED, CdcError
from cdc.event import RowEvent
from sinks.replay import RefusedRow, Replay
from tests.unit.sinks.test_fold import KEYED, KEYLESS, event


class Rows:
    """A target that has none."""

    def __init__(self, refused: str | None = None) -> None:
        self._refused = refused

    def of(self, *_: object) -> Any:
        return None

    def delete_one(self, *_: object) -> int:
        if self._refused is not None:
            raise RefusedRow(self._refused)
        return 0

    def removes(self, *_: object) -> int:
        return 0


def stopped(rows: Rows, of: RowEvent, table: Any) -> CdcError:
    with pytest.raises(CdcError) as caught:
        Replay(rows, "shop").apply(of, table, 7, exact=True)  # type: ignore[arg-type]
    return caught.value


def test_a_row_that_is_not_there() -> None:
    error = stopped(Rows(), event(KEYED, "d", before={"id": 5, "a": "x", "b": None}), KEYED)
    assert error.code is ROW_DIVERGED
    assert error.text == 'delete of public.keyed {"id":5} in transaction 7 met 0 rows on the target, 1 expected'


def test_of_a_row_without_a_key_values_are_shown_in_short() -> None:
    error = stopped(Rows(), event(KEYLESS, "d", before={"a": "x" * 5000, "f": 1.5}), KEYLESS)
    assert "x… (5,000 characters)" in error.text
    assert '"f":1.5' in error.text
    assert len(error.text) < 250


def test_what_the_target_says_of_it_too() -> None:
    error = stopped(Rows("no place for " + "x" * 5000), event(KEYED, "d", before={"id": 5}), KEYED)
    assert error.code is APPLY_FAILED
    assert "no place for x" in error.text
    assert len(error.text) < 2200
