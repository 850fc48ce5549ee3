"""Refusals as CloudStack words them: a code that is the HTTP status too, and a text.

The codes are CloudStack's own (431, 531 and their kin are in no register of HTTP). What a caller
that is no root administrator must not see of a failure inside is masked where it is answered
(`masked`), not where it is raised.
"""

from __future__ import annotations

from dataclasses import dataclass

UNAUTHORIZED = 401
NO_METHOD = 405
TOO_MANY = 429
MALFORMED = 430
BAD_PARAMETER = 431
UNSUPPORTED = 432
SECOND_FACTOR = 511
INTERNAL = 530
NOT_ALLOWED = 531
LIMIT = 532
NO_CAPACITY = 533
UNAVAILABLE = 534
NO_ALLOCATION = 535
IN_USE = 536

MASKED = frozenset({INTERNAL, NO_CAPACITY, UNAVAILABLE})
"""What only a root administrator is told the reason of."""

_DETAIL_CODES = {BAD_PARAMETER: 4350, NOT_ALLOWED: 4365, INTERNAL: 4250}


@dataclass
class ApiError(Exception):
    """One refusal."""

    code: int
    text: str

    def __str__(self) -> str:
        """Show both, for who reads a trace."""
        return f"{self.code}: {self.text}"

    @property
    def detail_code(self) -> int:
        """Give `cserrorcode`: of the Java class behind it, 9999 for those without."""
        return _DETAIL_CODES.get(self.code, 9999)

    def body(self) -> dict[str, object]:
        """Give it as the body of an answer."""
        return {
            "uuidList": [],
            "errorcode": self.code,
            "cserrorcode": self.detail_code,
            "errortext": self.text,
        }


def not_verified() -> ApiError:
    """Refuse a request whose sender is in doubt: one text for a dozen reasons."""
    return ApiError(
        UNAUTHORIZED, "unable to verify user credentials and/or request signature"
    )  # fmt: skip


def bad(text: str) -> ApiError:
    """Refuse a parameter, or a state that does not allow what was asked."""
    return ApiError(BAD_PARAMETER, text)


def unknown_entity(command: str, name: str, value: str) -> ApiError:
    """Refuse an id that is malformed or of nothing: CloudStack tells no difference."""
    return bad(
        f"Unable to execute API command {command.lower()} due to invalid value. Invalid parameter "
        f"{name} value={value} due to incorrect long value format, or entity does not exist or "
        "due to incorrect parameter annotation for the field in api cmd class."
    )


def denied(text: str) -> ApiError:
    """Refuse what the account may not do."""
    return ApiError(NOT_ALLOWED, text)


def masked(error: ApiError) -> ApiError:
    """Take the reason out of a failure inside, for who must not see it."""
    if error.code not in MASKED:
        return error
    text = "Internal error executing command, please contact your system administrator"
    return ApiError(error.code, text)
