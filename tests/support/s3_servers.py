"""S3 on this machine: ``rclone serve s3`` for plain buckets, ``moto`` for versions and locks.

They differ, which is their use.  rclone checks signatures, ignores conditions (an
object that exists is overwritten) and answers requests for ranges in a way that obstore refuses.
moto knows conditions, versions and locks, and believes every signature.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from sendense.model.secret import Secret
from tests.support.server_process import serving

_PROGRAMS = Path(sys.executable).parent
KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
CREDENTIALS = {"access_key_id": Secret(KEY), "secret_access_key": Secret(SECRET)}


@dataclass(frozen=True)
class S3Server:
    """A server, and how to reach it."""

    endpoint: str

    def url(self, bucket: str, prefix: str = "", **query: str) -> str:
        """Give the URL of a bucket there, or of what is below a prefix."""
        pairs = {"endpoint": self.endpoint, "region": "us-east-1", **query}
        path = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        return path + "?" + "&".join(f"{key}={value}" for key, value in pairs.items())

    def client(self):
        """Give boto3's client, to look behind the store's back."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def make_bucket(self, name: str, *, locks: bool = False) -> None:
        """Make a bucket, with versions and object lock where asked."""
        self.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=locks)


@contextmanager
def rclone_server() -> Iterator[S3Server]:
    """Serve S3 from memory."""

    def command(port: int) -> list[str]:
        where = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--config", ""]
        return [str(_PROGRAMS / "rclone"), "serve", "s3", ":memory:", *where]

    with serving(command) as port:
        yield S3Server(f"http://127.0.0.1:{port}")


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Serve S3 from memory."""

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with serving(command) as port:
        yield S3Server(f"http://127.0.0.1:{port}")
