"""`sinks.archive.scratch`: what a killed restore left goes, what a living one works with stays."""

from pathlib import Path

from sinks.archive.scratch import Scratch


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
