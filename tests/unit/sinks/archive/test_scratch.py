"""`sinks.archive.scratch`: what a killed restore left goes, what a living one works with stays."""

from pathlib import Path

from sinks.archive.scratch import BATCH_BYTES, BATCH_ROWS, Scratch


def test_the_next_one_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed, strange = tmp_path / "cdc-restore-killed", tmp_path / "cdc-restore-without-a-lock"
    for folder in (killed, strange):
        folder.mkdir()
    (killed / "lock").touch()
    (killed / "scratch.db").write_bytes(b"rows")
    with Scratch(tmp_path) as living:
        living.run("CREATE TABLE t AS SELECT 1 AS n")
        assert not killed.exists()
        with Scratch(tmp_path):
            assert len(list(tmp_path.iterdir())) == 3
        assert living.rows("SELECT n FROM t") == [(1,)]
    assert list(tmp_path.iterdir()) == [strange]


def test_batches_are_small_whatever_rows_are_like(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        narrow = list(scratch.batches("SELECT i FROM range(120_000) r(i)"))
        assert sum(batch.num_rows for batch in narrow) == 120_000
        assert len(narrow) == 3
        assert max(batch.num_rows for batch in narrow) < BATCH_ROWS + 2048
        wide = list(scratch.batches("SELECT repeat('x', 10_000) AS line FROM range(9_000)"))
        assert sum(batch.num_rows for batch in wide) == 9_000
        assert max(batch.nbytes for batch in wide) < BATCH_BYTES + 2048 * 10_100
        assert list(scratch.batches("SELECT 1 WHERE false")) == []
