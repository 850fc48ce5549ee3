"""What a bucket answers, in our words.

``obstore`` has a class for some of what can go wrong, and one "generic" for the rest, among them
403 and 404 of a listing, and 503.  The HTTP status stands in its message only, so it is read
from there; where there is none, no answer came, which may pass.

A message can hold the address of a request, and that of an Azure SAS request is a secret.  So what
stands behind its ``?`` is cut off, and the original is not chained to our error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obstore import exceptions

from sendense.errors import (
    NotAllowed,
    NotFound,
    OutOfSpace,
    Rejected,
    SendenseError,
    Stalled,
    Unavailable,
)

FAILURES = (exceptions.BaseError, OSError, ValueError, NotImplementedError)
"""All that a call of ``obstore`` raises on purpose."""

_FINAL = (
    ValueError,
    NotImplementedError,
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
    exceptions.UnknownConfigurationKeyError,
)
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
_QUERY = re.compile(r"(https?://[^\s?]*)\?\S*")
_TIMED_OUT = re.compile(r"kind: Timeout|TimedOut|timed out")
_IDENTITY = re.compile(
    r"169\.254\.169\.254|token request|/latest/(api|meta-data)/|Missing\w*(Key|Credential)"
)
_CERTIFICATE = re.compile(r"InvalidCertificate|UnknownIssuer|CertificateRequired")
_CLIENT = re.compile(r"kind: Builder|BadScheme|BareRedirect")
_NOT_PARTIAL = re.compile(r"\bNotPartial\b")
NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
"""The codes that mean it is not only the object that is not there."""
_REFUSED = {"AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"}
_PASSING = {"RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "OperationAborted"}


@dataclass(frozen=True)
class Answer:
    """What is known of a failed request."""

    status: int | None
    code: str
    """The store's own word for it, such as ``NoSuchKey``; often empty."""
    text: str
    """One line for people."""
    whole: str
    """All that the client said, which may hold a secret."""

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Tell whether no answer came, and the client's reason fits."""
        return self.status is None and pattern.search(self.whole) is not None


def answer_of(error: Exception) -> Answer:
    """Read what a failure says."""
    whole = str(error)
    text, _, _ = whole.partition("\n\nDebug source:")
    status, code = _STATUS.search(text), _CODE.search(text)
    return Answer(
        status=int(status.group(1)) if status else None,
        code=(code.group(1) or code.group(2)) if code else "",
        text=_QUERY.sub(r"\1", " ".join(text.split()))[:300],
        whole=whole,
    )


def ignored_range(error: Exception) -> bool:
    """Tell whether the server answered with (or as if with) a whole object."""
    return _NOT_PARTIAL.search(str(error)) is not None


def explained(error: Exception, where: str) -> SendenseError:
    """Give our error for one of :data:`FAILURES`; raise it ``from None``."""
    answer = answer_of(error)
    kind, message, hint = _verdict(error, answer)
    return kind(f"{where}: {message}", hint=hint, status=answer.status, answer=answer.text)


_Verdict = tuple[type[SendenseError], str, str]


def _verdict(error: Exception, answer: Answer) -> _Verdict:
    if answer.code in NO_BUCKET:
        return (
            NotFound,
            "there is no such bucket",
            "check the name and the endpoint in the URL; sendense makes no buckets",
        )
    if isinstance(error, FileNotFoundError):
        return NotFound, "it is not there", "check the URL's bucket and prefix"
    if _is_refusal(error, answer):
        return (
            NotAllowed,
            f"the store refuses it ({answer.code or answer.status or answer.text})",
            "check the credentials, and the rights that docs/stores.md lists",
        )
    if answer.status == 507 or answer.code in _FULL:
        return (
            OutOfSpace,
            "the store has no room left",
            "raise the quota or delete points there; earlier points are not affected",
        )
    return _unserved(error, answer)


def _unserved(error: Exception, answer: Answer) -> _Verdict:
    """Say what no answer, or one that is neither yes nor no, means."""
    if _IDENTITY.search(answer.whole) and (answer.status or 0) < 429:
        return (
            NotAllowed,
            "no credentials for the store were found",
            "set those that docs/stores.md lists in the environment or in the settings",
        )
    if answer.says(_CERTIFICATE):
        return (
            Rejected,
            "the certificate of the service is not trusted",
            "name its authority with ca_file=/path/to/ca.pem in the URL",
        )
    if _may_pass(error, answer) and not answer.says(_CLIENT):
        return (
            Stalled if answer.says(_TIMED_OUT) else Unavailable,
            f"the store did not serve it: {answer.text}",
            "look at the network and the storage service, then run it again",
        )
    return (
        Rejected,
        f"the store cannot do it: {answer.text}",
        "check the URL's endpoint, region and path_style against the service's manual",
    )


def _is_refusal(error: Exception, answer: Answer) -> bool:
    refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if answer.code in _PASSING or _IDENTITY.search(answer.text):
        return False
    by_status = answer.status in (401, 403) or answer.code in _REFUSED
    return isinstance(error, (*refused, PermissionError)) or by_status


def _may_pass(error: Exception, answer: Answer) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(error, _FINAL):
        return False
    if answer.status is None or answer.code in _PASSING:
        return True
    if answer.status == 501:
        return False
    return answer.status >= 500 or answer.status in (408, 409, 412, 429)
