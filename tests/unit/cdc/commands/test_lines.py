"""What tail and verify print."""

import json

import pytest

from cdc.commands.tail import event_line, event_record, show
from cdc.commands.verify import settle, show_json
from cdc.commands.verify import show as show_verdict
from cdc.event import RowEvent
from cdc.verdict import Compared, Verdict

INSERT = RowEvent("public.a", "c", 1, "0" * 16, None, {"id": 1, "big": "x"})
UPDATE = RowEvent("public.a", "u", 2, "0" * 16, None, {"id": 1, "big": "?"}, unchanged=("big",))
DELETE = RowEvent("public.a", "d", 3, "0" * 16, {"id": 1}, None)
TRUNCATE = RowEvent("public.a", "t", 4, "0" * 16, None, None)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (INSERT, '#7 1:0/1  insert public.a {"id":1,"big":"x"}'),
        (UPDATE, '#7 1:0/1  update public.a {"id":1}'),
        (DELETE, '#7 1:0/1  delete public.a {"id":1}'),
        (TRUNCATE, "#7 1:0/1  truncate public.a"),
    ],
)
def test_an_event_is_a_line(event: RowEvent, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert event_line("1:0/1", 7, event) == line
    show("1:0/1", 7, event, as_json=False)
    show("1:0/1", 7, event, as_json=True)
    plain, record = capsys.readouterr().out.splitlines()
    assert plain == line
    assert json.loads(record) == json.loads(json.dumps(event_record("1:0/1", 7, event)))


GOOD = Compared("public.a", True, 1000, 1000)
BAD = Compared("public.b", False, 5, 4, ("(3)",))


def verdict(*tables: Compared, moved: bool = False, copying: tuple[str, ...] = ()) -> Verdict:
    return Verdict("1:0/1", 7, 3, tables, moved, copying)


@pytest.mark.parametrize(
    ("given", "result", "last"),
    [
        (verdict(GOOD), "EQUAL", "EQUAL: 1 tables at 1:0/1 (transaction 3)"),
        (verdict(GOOD, moved=True), "EQUAL", "EQUAL: 1 tables at 1:0/1 (transaction 3)"),
        (verdict(GOOD, BAD), "DIFFERENT", "DIFFERENT: 2 tables at 1:0/1 (transaction 3)"),
        (
            verdict(BAD, moved=True),
            "NOT COMPARABLE",
            (
                "NOT COMPARABLE: 1 tables at 1:0/1 (transaction 3): the sink has moved beyond what was read at the "
                "source; compare again while the source is quiet"
            ),
        ),
        (
            verdict(BAD, copying=("public.b",)),
            "NOT COMPARABLE",
            "NOT COMPARABLE: 1 tables at 1:0/1 (transaction 3): still being copied: public.b",
        ),
    ],
)
def test_a_verdict(given: Verdict, result: str, last: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert given.result == result
    show_verdict(given, [])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last
    assert ("different  public.b  source 5 rows, replica 4; such as (3)" in lines) == (BAD in given.tables)
    show_json(given, ["public.later"])
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"v", "result", "position", "epoch", "txn_seq", "copying", "not_captured", "tables"}
    assert report["not_captured"] == ["public.later"]
    assert (report["v"], report["result"]) == (1, result)
    assert set(report["tables"][0]) == {"table", "equal", "source_rows", "target_rows", "keys"}


def test_it_is_compared_again_until_equal_a_few_times() -> None:
    seen = [verdict(BAD, moved=True), verdict(BAD), verdict(GOOD), verdict(GOOD)]
    assert settle(lambda: seen.pop(0)).equal
    assert len(seen) == 1
    different = [verdict(BAD)] * 5
    assert settle(different.pop).result == "DIFFERENT"
    assert len(different) == 2


def test_a_verdict_says_what_it_does_not_cover(capsys: pytest.CaptureFixture[str]) -> None:
    show_verdict(verdict(GOOD), ["public.later"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("left out   public.later")
    assert lines[-1].endswith("; 1 wanted tables are not captured")
