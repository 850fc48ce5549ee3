"""Clients for buckets: from a URL and credentials to what ``obstore`` needs.

What neither gives is taken by ``obstore`` from the environment (``AWS_*``, ``AZURE_*`` and
``GOOGLE_*``) and from the machine's own identity in the cloud.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from sendense import __version__
from sendense.errors import Rejected
from sendense.storage.objects import Client, ObstoreStore
from sendense.storage.options import StoreOptions
from sendense.storage.s3locks import open_locks
from sendense.storage.store import ObjectLocks, Store, Traits

if TYPE_CHECKING:
    from obstore.store import AzureConfig, GCSConfig, S3Config, S3Credential, S3CredentialProvider

    from sendense.storage.urls import Credentials, StoreUrl

_PARALLEL = 8
_NO_LIMIT = timedelta(days=1)
"""On a request as a whole: what counts is whether anything moves."""

_SECRETS: Mapping[str, frozenset[str]] = {
    "s3": frozenset({"access_key_id", "secret_access_key", "session_token"}),
    "azure": frozenset({"account_key", "sas_key", "tenant_id", "client_id", "client_secret"}),
    "gs": frozenset({"service_account_key"}),
    "memory": frozenset(),
}

_AZURE_KINDS = {
    "account_key": "access_key",
    "sas_key": "sas_token",
    "client_secret": "client_secret",
}

_MEMORY: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()
"""By name, for as long as somebody has it open."""
_LOCK = threading.Lock()


def open_bucket(url: StoreUrl, credentials: Credentials, options: StoreOptions) -> Store:
    """Open the bucket, or the store in memory, that a URL means."""
    unknown = sorted(set(credentials) - _SECRETS[url.kind])
    if unknown:
        known = ", ".join(sorted(_SECRETS[url.kind])) or "none"
        raise Rejected(
            f"a {url.kind} store has no credential {unknown[0]!r}", hint=f"known are: {known}"
        )
    kinds: dict[str, Callable[[StoreUrl, Credentials, StoreOptions], Store]] = {
        "s3": _s3,
        "azure": _azure,
        "gs": _gs,
        "memory": _memory,
    }
    return kinds[url.kind](url, credentials, options)


def _s3(url: StoreUrl, credentials: Credentials, options: StoreOptions) -> Store:
    config: dict[str, Any] = {}
    config["virtual_hosted_style_request"] = not url.flag("path_style", "endpoint" in url.query)
    for key in ("endpoint", "region"):
        if key in url.query:
            config[key] = url.query[key]
    if url.query.get("lock_mode", "governance") not in ("governance", "compliance"):
        raise Rejected("the lock_mode is unknown", hint="write governance or compliance")
    locks = None
    if url.flag("object_lock", False):
        locks = open_locks(url, credentials, options)
        # Asked for with each object that is locked as it is written.
        config["checksum_algorithm"] = "sha256"
    traits = Traits(
        kind="s3",
        # Amazon's own decides; of what only speaks its protocol, much overwrites in silence.
        conditional_create=url.flag("conditional_create", "endpoint" not in url.query),
        parallel=_PARALLEL,
        object_lock=locks is not None,
    )

    provider = _s3_provider(credentials)

    def client(patience_s: float) -> S3Store:
        return S3Store(
            url.place,
            config=cast("S3Config", config),
            credential_provider=provider,
            **_shared(url, options, patience_s),
        )

    return _store(client, url, traits, options, locks)


def _s3_provider(credentials: Credentials) -> S3CredentialProvider | None:
    """Give what answers with the credentials that are named, and never with a part of others.

    Named among the settings of a client they would be joined by a session token of the
    environment.
    """
    if not credentials:
        return None
    named = _revealed(credentials)
    missing = {"access_key_id", "secret_access_key"} - set(named)
    if missing:
        raise Rejected(f"the credentials lack {missing.pop()!r}", hint="name both keys, or neither")
    answer: S3Credential = {
        "access_key_id": named["access_key_id"],
        "secret_access_key": named["secret_access_key"],
        "token": named.get("session_token"),
        "expires_at": None,
    }
    return lambda: answer


def _azure(url: StoreUrl, credentials: Credentials, options: StoreOptions) -> Store:
    config: dict[str, Any] = {**_revealed(credentials)}
    for name, kind in _AZURE_KINDS.items():
        if name in credentials:
            # Else one of another kind in the environment would be preferred.
            config["credential_type"] = kind
    if "account" in url.query:
        config["account_name"] = url.query["account"]
    if "endpoint" in url.query:
        config["endpoint"] = url.query["endpoint"]

    def client(patience_s: float) -> AzureStore:
        return AzureStore(
            url.place, config=cast("AzureConfig", config), **_shared(url, options, patience_s)
        )

    return _store(client, url, _traits("azure"), options)


def _gs(url: StoreUrl, credentials: Credentials, options: StoreOptions) -> Store:
    config: dict[str, Any] = {**_revealed(credentials)}
    if "endpoint" in url.query:
        config["base_url"] = url.query["endpoint"]

    def client(patience_s: float) -> GCSStore:
        return GCSStore(
            url.place, config=cast("GCSConfig", config), **_shared(url, options, patience_s)
        )

    return _store(client, url, _traits("gcs"), options)


def _memory(url: StoreUrl, credentials: Credentials, options: StoreOptions) -> Store:
    with _LOCK:
        memory = _MEMORY.setdefault(url.place, MemoryStore())
    return _store(lambda _: memory, url, _traits("memory"), options)


def _traits(kind: str) -> Traits:
    return Traits(kind=kind, conditional_create=True, parallel=_PARALLEL, object_lock=False)


def _store(
    client: Client,
    url: StoreUrl,
    traits: Traits,
    options: StoreOptions,
    locks: ObjectLocks | None = None,
) -> Store:
    return ObstoreStore(
        client,
        str(url),
        traits,
        stall_s=options.stall_s,
        slowest_bytes_per_s=options.slowest_bytes_per_s,
        locks=locks,
    )


def _revealed(credentials: Credentials) -> dict[str, str]:
    return {name: secret.reveal().decode() for name, secret in credentials.items()}


def _shared(url: StoreUrl, options: StoreOptions, patience_s: float) -> dict[str, Any]:
    """Give what all clients take: where, how long, and that they do not try again themselves."""
    client: dict[str, Any] = {
        "allow_http": url.query.get("endpoint", "").startswith("http://"),
        "connect_timeout": timedelta(seconds=options.connect_timeout_s),
        "read_timeout": timedelta(seconds=patience_s),
        "timeout": _NO_LIMIT,
        "user_agent": f"sendense/{__version__}",
    }
    if "ca_file" in url.query:
        client["root_certificate"] = _certificates(url.query["ca_file"])
    return {
        "prefix": url.prefix or None,
        "client_options": client,
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    }


def _certificates(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Rejected(
            f"the certificates in {path} cannot be read: {error.strerror}",
            hint="name a PEM file with the service's certificate authority",
        ) from error
