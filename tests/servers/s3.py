"""A real S3 store of our own (SeaweedFS, all in one process), kept on its ports and data.

In: an empty directory. Out: an S3 endpoint on 127.0.0.1 that asks for its keys, as `env` for every AWS client.
"""

import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.process import Process, free_port
from tests.servers.server import Server

ACCESS_KEY, SECRET_KEY, REGION = "cdc-tests", "only-for-the-length-of-a-test", "us-east-1"
_WEED = Path(sysconfig.get_path("scripts")) / "weed"
_IMPATIENT = Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1})

READY = "readiness"


class S3(Server):
    """One store; `bucket` makes a bucket in it."""

    kind = "SeaweedFS"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._ports = _ports()
        (directory / "data").mkdir(parents=True, exist_ok=True)

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

    def spawn(self) -> Process:
        return Process(self._command(), self.log, env=self._environment(), cwd=self.directory)

    def _environment(self) -> dict[str, str]:
        # Beside its log, it writes files of its own into its temporary directory and home.
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        places = {"HOME": str(self.directory), "TMPDIR": str(self.directory)}
        return {"PATH": os.environ["PATH"], **keys, **places}

    def kill9(self) -> None:
        """SIGKILL; what it leaves outside its directory goes too."""
        super().kill9()
        for port in self._ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108 - it takes no other place
                socket.unlink(missing_ok=True)

    def answers(self) -> bool:
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
