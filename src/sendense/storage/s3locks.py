"""Object locks of S3: an object that nobody removes before a date, whoever holds our keys.

``boto3`` does this, because ``obstore`` has no calls for retention; it is loaded only for
a URL with ``object_lock=true``, and is the extra ``s3-locks``.

S3 locks versions, not names.  In a bucket with object lock a removal puts a marker on top of the
versions, and an overwriting puts a new version there; what is locked stays below.  So a thief with
our credentials can hide a locked object and cannot destroy it: :meth:`S3Locks.undelete` and
:meth:`S3Locks.unreplace` bring it to light again.

``governance`` locks can be lifted by who has the right ``s3:BypassGovernanceRetention``, which
backups do not need; ``compliance`` locks by nobody, not even the owner of the account.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sendense.errors import (
    NotAllowed,
    NotFound,
    Rejected,
    SendenseError,
    Stalled,
    Unavailable,
    Unsupported,
)
from sendense.storage.names import check_name, check_prefix
from sendense.storage.retrying import Patience

if TYPE_CHECKING:
    from sendense.storage.options import StoreOptions
    from sendense.storage.urls import Credentials, StoreUrl

_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_GONE = {"NoSuchKey", "NoSuchVersion", "MethodNotAllowed", "404"}
_REFUSED = {"AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "403", "401"}
_AT_ONCE = 1000


class S3Locks:
    """Retention dates of the objects below a prefix of a bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str, mode: str) -> None:  # noqa: ANN401
        """Lock with ``mode``, ``GOVERNANCE`` or ``COMPLIANCE``; ``client`` is boto3's for S3."""
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._mode = mode

    def check(self) -> None:
        """Refuse a bucket that does not enforce locks."""
        with _explaining(self._bucket):
            enabled = self._configuration()
        if enabled.get("ObjectLockEnabled") != "Enabled":
            raise Rejected(
                f"the bucket {self._bucket} has no object lock",
                hint="make a new bucket with object lock enabled (docs/stores.md), "
                "or take object_lock=true out of the URL",
            )

    def _configuration(self) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if _code(error) == _NO_LOCK:
                return {}
            raise
        configuration: dict[str, Any] = answer.get("ObjectLockConfiguration", {})
        return configuration

    def extend(self, name: str, until: datetime) -> None:
        """Lock an object until ``until``, at least; a later date that is set stays."""
        check_name(name)
        with _explaining(name):
            mode, current = self._lock(name)
            if current is not None and current >= until:
                return
            # A lock of the stronger kind is extended as what it is: it cannot become weaker.
            retention = {
                "Mode": "COMPLIANCE" if mode == "COMPLIANCE" else self._mode,
                "RetainUntilDate": until.astimezone(UTC),
            }
            self._client.put_object_retention(
                Bucket=self._bucket, Key=self._prefix + name, Retention=retention
            )

    def until(self, name: str) -> datetime | None:
        """Tell until when an object is locked."""
        check_name(name)
        with _explaining(name):
            return self._lock(name)[1]

    def _lock(self, name: str) -> tuple[str, datetime | None]:
        """Give the mode and the date, which are told with everything else of an object."""
        head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        until = head.get("ObjectLockRetainUntilDate")
        return head.get("ObjectLockMode", ""), until.astimezone(UTC) if until else None

    # --- after an attack

    def undelete(self, prefix: str) -> int:
        """Bring back the objects below a prefix that were removed; give how many.

        That is all that the bucket still keeps, whether it is locked or not: collected
        garbage comes back too, and is collected again.
        """
        check_prefix(prefix)
        with _explaining(prefix):
            history = self._history(prefix)
            markers = [
                {"Key": key, "VersionId": marker["VersionId"]}
                for key, (versions, markers) in history.items()
                if versions
                for marker in markers
            ]
            for first in range(0, len(markers), _AT_ONCE):
                self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": markers[first : first + _AT_ONCE], "Quiet": True},
                )
        return len({marker["Key"] for marker in markers})

    def unreplace(self, prefix: str) -> int:
        """Put the first version of each overwritten object on top again; give how many.

        Only for objects that are written once, as all but leases are.
        """
        check_prefix(prefix)
        count = 0
        with _explaining(prefix):
            for key, (versions, _) in self._history(prefix).items():
                first, last = versions[-1:], versions[:1]
                if not first or first[0]["ETag"] == last[0]["ETag"]:
                    continue
                source = {"Bucket": self._bucket, "Key": key, "VersionId": first[0]["VersionId"]}
                self._client.copy_object(Bucket=self._bucket, Key=key, CopySource=source)
                count += 1
        return count

    def _history(self, prefix: str) -> dict[str, tuple[Sequence[Any], Sequence[Any]]]:
        """Give versions and markers of each object, the newest first."""
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        history: dict[str, tuple[list[Any], list[Any]]] = {}
        for page in pages:
            for kind, field in enumerate(("Versions", "DeleteMarkers")):
                for item in page.get(field, ()):
                    history.setdefault(item["Key"], ([], []))[kind].append(item)
        return {**history}


def open_locks(url: StoreUrl, credentials: Credentials, options: StoreOptions) -> S3Locks:
    """Make the locks of a URL with ``object_lock=true``, and ask whether they are enforced."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise Unsupported(
            "object locks need the package boto3", hint="install sendense[s3-locks]"
        ) from error
    secrets = {name: secret.reveal().decode() for name, secret in credentials.items()}
    virtual = not url.flag("path_style", "endpoint" in url.query)
    client = boto3.client(
        "s3",
        endpoint_url=url.query.get("endpoint"),
        region_name=url.query.get("region"),
        aws_access_key_id=secrets.get("access_key_id"),
        aws_secret_access_key=secrets.get("secret_access_key"),
        aws_session_token=secrets.get("session_token"),
        verify=url.query.get("ca_file"),
        config=Config(
            connect_timeout=options.connect_timeout_s,
            read_timeout=options.stall_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=32,
            s3={"addressing_style": "virtual" if virtual else "path"},
        ),
    )
    mode = url.query.get("lock_mode", "governance").upper()
    locks = S3Locks(client, url.place, url.prefix, mode)
    patience = Patience(options.attempts, options.patience_s)
    patience.try_out("asking for object lock", lambda _: locks.check())
    return locks


@contextmanager
def _explaining(where: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise _explained(error, where) from error


def _code(error: Any) -> str:  # noqa: ANN401
    return str(error.response.get("Error", {}).get("Code", ""))


def _explained(error: Exception, where: str) -> SendenseError:
    from botocore import exceptions as theirs

    if isinstance(error, theirs.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _refused(_code(error), status, where)
    if isinstance(error, (theirs.NoCredentialsError, theirs.PartialCredentialsError)):
        return NotAllowed(
            f"{where}: no credentials for the store were found",
            hint="set those that docs/stores.md lists in the environment or in the settings",
        )
    timed_out = isinstance(error, (theirs.ReadTimeoutError, theirs.ConnectTimeoutError))
    return (Stalled if timed_out else Unavailable)(
        f"{where}: the store did not serve it: {error}",
        hint="look at the network and the storage service, then run it again",
    )


def _refused(code: str, status: int, where: str) -> SendenseError:
    if code in _GONE or code == "NoSuchBucket":
        return NotFound(f"{where}: it is not there ({code})", hint="check the URL")
    if code in _REFUSED:
        return NotAllowed(
            f"{where}: the store refuses it ({code})",
            hint="check the credentials, and the rights for object lock in docs/stores.md",
        )
    if (status >= 500 and status != 501) or status in (408, 409, 429):
        return Unavailable(
            f"{where}: the store did not serve it ({code})",
            hint="look at the storage service, then run it again",
        )
    return Rejected(
        f"{where}: the store cannot do it ({code})",
        hint="check that the service knows object lock, and the bucket has it",
    )
