"""One way to write where objects lie, and what opens it.

::

    /srv/backup                     a directory; also file:///srv/backup
    s3://bucket/prefix?endpoint=https://host:9000&region=eu-1&path_style=true
    azure://container/prefix?account=name
    gs://bucket/prefix
    memory:name                     for tests: lost when nobody has it open

A URL is shown, logged and kept in settings, so it never holds a secret: credentials come from the
environment, as every tool for that store takes them, or from the settings.  ``docs/stores.md`` has
it all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from sendense.errors import Rejected
from sendense.model.secret import Secret
from sendense.storage.counting import Counting
from sendense.storage.local import LocalStore
from sendense.storage.names import is_name
from sendense.storage.options import DEFAULT, StoreOptions
from sendense.storage.retrying import Patience, Retrying
from sendense.storage.store import Store
from sendense.storage.throttled import Throttled
from sendense.transfer.throttle import UNLIMITED

Credentials = Mapping[str, Secret]
"""Secrets by the names that ``docs/stores.md`` lists for each kind of store."""

KNOWN_QUERY: Mapping[str, frozenset[str]] = {
    "s3": frozenset(
        {
            "ca_file",
            "conditional_create",
            "endpoint",
            "lock_mode",
            "object_lock",
            "path_style",
            "region",
        }
    ),
    "azure": frozenset({"account", "ca_file", "endpoint"}),
    "gs": frozenset({"ca_file", "endpoint"}),
}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_SECRET = re.compile(r"key|secret|password|token|sas|sig|credential", re.IGNORECASE)
_FORMS = "/path, s3://bucket/prefix, azure://container/prefix, gs://bucket/prefix"


@dataclass(frozen=True)
class StoreUrl:
    """A URL, taken apart and found to be in order."""

    kind: str
    """``file``, ``s3``, ``azure``, ``gs`` or ``memory``."""
    place: str
    """The directory, the bucket or the name."""
    prefix: str = ""
    query: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        if self.kind == "file":
            return self.place
        if self.kind == "memory":
            return f"memory:{self.place}"
        path = f"{self.kind}://{self.place}" + (f"/{self.prefix}" if self.prefix else "")
        return path + (f"?{urlencode(self.query, safe=':/')}" if self.query else "")

    def flag(self, key: str, default: bool) -> bool:
        """Give ``true`` or ``false`` of the query."""
        text = self.query.get(key)
        if text is None:
            return default
        if text not in ("true", "false"):
            raise Rejected(f"{key} is neither true nor false", hint=f"write {key}=true")
        return text == "true"


def parse_url(url: str) -> StoreUrl:
    """Take a URL apart; what is wrong with it is said without showing it."""
    scheme = _SCHEME.match(url)
    kind = scheme.group(1) if scheme else "file"
    rest = url[scheme.end() :] if scheme else url
    if kind == "file":
        return _directory(rest, is_url=scheme is not None)
    if kind == "memory":
        if not is_name(rest):
            raise Rejected("a store in memory needs a name", hint="write memory:<name>")
        return StoreUrl(kind, rest)
    if kind not in KNOWN_QUERY:
        raise Rejected(f"there is no kind of store {kind!r}", hint=f"write one of {_FORMS}")
    return _bucket(kind, url)


def _directory(rest: str, *, is_url: bool) -> StoreUrl:
    if is_url:
        if not rest.startswith("///"):
            raise Rejected(
                "a file URL names a directory of this machine, by its whole path",
                hint="write file:///path, or just /path",
            )
        rest = unquote(rest[2:])
    if not rest or "\0" in rest:
        raise Rejected("the store's path is empty", hint=f"write one of {_FORMS}")
    return StoreUrl("file", str(Path(rest).absolute()))


def _bucket(kind: str, url: str) -> StoreUrl:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise Rejected("the store's URL is not one", hint=f"write one of {_FORMS}") from error
    _refuse_secret(parts.netloc)
    if parts.fragment:
        raise Rejected("a store's URL has no part behind '#'", hint="write %23 for a '#'")
    if not _BUCKET.fullmatch(parts.netloc):
        raise Rejected(
            "the store's URL names no bucket", hint=f"write {kind}://bucket/prefix?key=value"
        )
    prefix = unquote(parts.path).strip("/")
    if prefix and not is_name(prefix):
        raise Rejected(
            f"objects cannot lie below {prefix!r}",
            hint="use letters, digits, '.', '_' and '-' in parts joined by '/'",
        )
    return StoreUrl(kind, parts.netloc, prefix, _query(kind, parts.query))


def _query(kind: str, text: str) -> Mapping[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    query = dict(sorted(pairs))
    if len(query) < len(pairs):
        raise Rejected("a part of the store's URL is given twice", hint="keep one of them")
    known = ", ".join(sorted(KNOWN_QUERY[kind]))
    for key in query:
        if key in KNOWN_QUERY[kind]:
            continue
        if _SECRET.search(key):
            raise Rejected(
                f"{key!r} does not belong in a URL, which is shown and logged", hint=_ELSEWHERE
            )
        raise Rejected(f"a URL of {kind}:// has no {key!r}", hint=f"known are {known}")
    if "endpoint" in query:
        _check_endpoint(query["endpoint"])
    return MappingProxyType(query)


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    _refuse_secret(parts.netloc)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise Rejected(
            "the endpoint is no address of a service", hint="write endpoint=https://host:port"
        )


_ELSEWHERE = (
    "take it out, give the credentials in the environment or in the settings, and change them, "
    "for this one may have been seen"
)


def _refuse_secret(netloc: str) -> None:
    if "@" in netloc:
        raise Rejected("a store's URL holds no user and no password", hint=_ELSEWHERE)


def open_store(
    url: str, credentials: Credentials | None = None, options: StoreOptions = DEFAULT
) -> Store:
    """Open what a URL means, with retries, limits and counts in front of it.

    Nothing is looked up yet, save that a store with ``object_lock`` is asked whether it can.
    """
    return wrapped(_opened(parse_url(url), credentials or {}, options), options)


def _opened(url: StoreUrl, credentials: Credentials, options: StoreOptions) -> Store:
    if url.kind == "file":
        if credentials:
            raise Rejected("a directory takes no credentials", hint="leave them out")
        return LocalStore(Path(url.place))
    # Only here: loading the client takes longer than most commands that do without it.
    from sendense.storage.buckets import open_bucket

    return open_bucket(url, credentials, options)


def wrapped(store: Store, options: StoreOptions) -> Store:
    """Put in front of a store what the options ask for."""
    if options.counters is not None:
        store = Counting(store, options.counters)
    if options.upload is not UNLIMITED or options.download is not UNLIMITED:
        store = Throttled(store, upload=options.upload, download=options.download)
    return Retrying(store, Patience(options.attempts, options.patience_s))
