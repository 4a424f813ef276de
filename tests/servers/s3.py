"""A real S3 store of our own (SeaweedFS, all in one process), kept on its ports and data.

In: an empty directory. Out: an S3 endpoint on 127.0.0.1 that asks for its keys, as `env` for every AWS client.
"""

import os
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.process import Process, free_port

ACCESS_KEY, SECRET_KEY, REGION = "cdc-tests", "only-for-the-length-of-a-test", "us-east-1"
_WEED = Path(sysconfig.get_path("scripts")) / "weed"
_IMPATIENT = Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1})

READY = "readiness"


class S3:
    """One store; `bucket` makes a bucket in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "s3.log"
        self.port = free_port()
        self._ports = _ports()
        self._process: Process | None = None
        (directory / "data").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill9()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def env(self, *, port: int | None = None) -> Mapping[str, str]:
        """What an AWS client needs; `port` names a proxy's instead."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
        }

    def client(self) -> Any:
        """A boto3 client that leads straight to the store and never tries again."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
            config=_IMPATIENT,
        )

    def bucket(self, name: str) -> str:
        """A fresh bucket, and its name as S3 wants it: neither _ nor capitals."""
        name = name.lower().replace("_", "-")
        self.client().create_bucket(Bucket=name)
        return name

    @property
    def process(self) -> Process:
        """The store, for its pid, memory and CPU."""
        assert self._process, "start() the store first"
        return self._process

    @property
    def running(self) -> bool:
        """Whether it lives; a frozen one does."""
        return self._process is not None and self._process.running

    def start(self, timeout: float = 60) -> None:
        """Start and wait until it answers a client."""
        assert not self.running, "it is running already"
        # Beside its log, it writes files of its own into its temporary directory and home.
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        places = {"HOME": str(self.directory), "TMPDIR": str(self.directory)}
        env = {"PATH": os.environ["PATH"], **keys, **places}
        self._process = Process(self._command(), self.log, env=env, cwd=self.directory)
        deadline = time.monotonic() + timeout
        while not self._answers():
            if not self.process.running or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start: {self.process.tail()}")
            time.sleep(0.05)

    def stop(self, timeout: float = 60) -> None:
        """End it in order."""
        self.process.stop(timeout=timeout)

    def kill9(self) -> None:
        """SIGKILL; what it leaves outside its directory goes too."""
        self.process.kill9()
        for port in self._ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108 - it takes no other place
                socket.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop if it runs, then start on the same ports and data."""
        if self.running:
            self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self.process.pause()

    def cont(self) -> None:
        """SIGCONT."""
        self.process.cont()

    def _answers(self) -> bool:
        """Its parts find each other one after the other: only who reads what he wrote knows that all are there."""
        client = self.client()
        try:
            if READY not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=READY)
            client.put_object(Bucket=READY, Key="k", Body=b"ready")
            return bool(client.get_object(Bucket=READY, Key="k")["Body"].read() == b"ready")
        except (BotoCoreError, ClientError):
            return False

    def _command(self) -> list[str]:
        options: dict[str, str | int] = {
            "dir": "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.port": self.port,
            **self._ports,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.autoCreateBucket": "false",
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",  # it would tell its maker
            "master.volumeSizeLimitMB": 64,
            "volume.max": 1000,  # each bucket takes some
            "volume.preStopSeconds": 0,
            # Relative, because a socket's path may be no longer than 108 bytes.
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
        }
        return [str(_WEED), "-logdir=.", "mini", *(f"-{name}={value}" for name, value in options.items())]


def _ports() -> dict[str, int]:
    """Of the other parts, which by default find each other on well-known ports and 10,000 above them."""
    names = ["master", "filer", "volume"]
    ports = {f"{name}.port": free_port() for name in names} | {f"{name}.port.grpc": free_port() for name in names}
    # The worker finds the admin server by that distance alone.
    admin = next(port for port in iter(free_port, None) if port < 22_000)
    return {**ports, "s3.port.grpc": free_port(), "admin.port": admin, "admin.port.grpc": admin + 10_000}
