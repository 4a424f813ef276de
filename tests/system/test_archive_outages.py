"""An archive in a bucket of a real store that is away, slow, busy, or loses its answers: nothing is lost or doubled."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.config import Config

from cdc.errors import STORE_UNREACHABLE, CdcError
from cdc.secret import parse_key
from sinks.archive import bucket as bucket_module
from sinks.archive.archive import Archive
from sinks.archive.verify import verify
from sinks.archive.window import Windows
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3
from tests.system.pipeline import Pipeline, wait_until
from tests.system.test_archive_restore import at_source, at_target, cdc_restore
from tests.system.test_archive_store import Front
from tests.system.test_archive_writer import logged, transactions, work


class Bucket:
    """A pipeline whose archive is in a bucket, behind `front` and, nearer to the clients, `wire`."""

    def __init__(self, pipeline: Pipeline, front: Front, wire: Proxy) -> None:
        self.pipeline, self.front, self.wire = pipeline, front, wire

    def faulty(self, *faults: str, where: str = "") -> None:
        self.front.where = where
        self.front.faults += faults

    def assert_whole(self) -> None:
        assert not self.front.faults, "not all of the faults came about"
        assert transactions(self.pipeline.archive()) == logged(self.pipeline)


@pytest.fixture
def bucket(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, s3: S3, unique_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bucket]:  # fmt: skip
    database.execute(SHOP)
    front = Front(s3.port)
    with Proxy(front.port) as wire:
        home = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
                "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
        for name, value in {**s3.env(port=wire.port), **home}.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{s3.bucket(unique_name)}/main"
        pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap, archive_options={"url": url})
        pipeline.archive_url = f"{url}/{pipeline.name}"
        pipeline.publish()
        yield Bucket(pipeline, front, wire)
    front.close()


@pytest.mark.matrix
def test_an_archive_in_a_bucket_that_fails_now_and_then(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its life in one: written, based, restored, listed and verified, each with faults."""
    pipeline = bucket.pipeline
    with pipeline.source_running(), pipeline.archive_running() as archiver:
        wait_until(lambda: len(logged(pipeline)) >= 2, "the copy")
        pipeline.wait_archived()
        lose_answers(bucket)
        take_away(bucket, archiver)
        # A base: answers lost, then the store away.
        bucket.faulty("lost", "503", "lost", where="/base/")
        backup = pipeline.run("archive", "backup", "main", env={"PG_DUMP": str(Postgres.pg_dump)})
        assert backup.wait(60) == 0, backup.tail()
        work(pipeline, 3)
        lsn, expected = at_source(pipeline)
        pipeline.wait_archived()
    bucket.assert_whole()
    # A restore: busy, an answer cut short, an answer lost.
    into = ["--to-lsn", str(lsn), "--into", pipeline.target.url()]
    bucket.faulty("503", "half", "lost")
    done = cdc_restore(pipeline, *into)
    assert done.returncode == 0, done.stderr
    assert "from base/" in done.stdout
    assert not bucket.front.faults
    assert at_target(pipeline)[1] == expected
    pipeline.target.execute("DROP SCHEMA public, cdc CASCADE; CREATE SCHEMA public")
    refuse_when_away(bucket, into, monkeypatch)


def lose_answers(bucket: Bucket) -> None:
    """Of a body, of the manifest (so often that the archiver begins anew), of the head."""
    for where, faults in (("rows.parquet", ["lost"]), ("/log/", ["lost"] * 5), ("head.json", ["lost", "503"])):
        bucket.faulty(*faults, where=where)
        work(bucket.pipeline, 3)
        wait_until(lambda: not bucket.front.faults, f"faults at {where}")
        bucket.pipeline.wait_archived()
    bucket.assert_whole()


def take_away(bucket: Bucket, archiver: Process) -> None:
    """Busy, then slow, then away for longer than a client tries; the archiver waits and goes on."""
    pipeline = bucket.pipeline
    bucket.faulty(*["503"] * 6)
    work(pipeline, 3)
    pipeline.wait_archived()
    bucket.wire.stall()
    work(pipeline, 3)
    time.sleep(3)
    bucket.wire.restore()
    pipeline.wait_archived()
    bucket.wire.cut()
    work(pipeline, 3)
    wait_until(lambda: "STORE_UNREACHABLE" in archiver.log.read_text(), "a word about it")
    bucket.wire.restore()
    pipeline.wait_archived()
    assert archiver.running
    bucket.assert_whole()


def refuse_when_away(bucket: Bucket, into: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is away is no damage and no empty archive."""
    pipeline = bucket.pipeline
    bucket.wire.cut()
    done = cdc_restore(pipeline, *into)
    assert (done.returncode, "STORE_UNREACHABLE" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
    bucket.wire.restore()
    archive = pipeline.archive()
    impatient = Config(connect_timeout=0.5, read_timeout=0.5, retries={"total_max_attempts": 1})
    monkeypatch.setattr(bucket_module, "_CLIENT", bucket_module._CLIENT.merge(impatient))
    away = Archive.open(pipeline.archive_url, parse_key(pipeline.archive_key))
    assert verify(archive, lambda _: None)[1] == []
    bucket.wire.cut()
    for call in (lambda: verify(away, lambda _: None), lambda: Windows(away).windows()):
        with pytest.raises(CdcError) as caught:
            call()
        assert caught.value.code is STORE_UNREACHABLE
