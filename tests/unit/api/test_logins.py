"""How many sign in at once, and what counts against whom."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from sendense.api.logins import Logins
from sendense.api.problems import TooMany
from sendense.errors import NotSignedIn, SecondStep, SendenseError, Unavailable, Unsupported
from sendense.model.secret import Secret

FAILURES = [NotSignedIn, SecondStep, Unsupported, Unavailable, SendenseError, ValueError]
NOBODY = Secret("x")


def attempt(logins, kind, origin="192.0.2.1"):
    """Fail one so."""
    with pytest.raises(kind), logins.attempt(origin, NOBODY):
        raise kind("no")


@pytest.mark.parametrize("kind", FAILURES)
def test_each_failure_counts_for_its_address(kind):
    logins = Logins(allowed=2)
    attempt(logins, kind)
    attempt(logins, kind)
    with pytest.raises(TooMany), logins.attempt("192.0.2.1", NOBODY):
        pass
    with logins.attempt("192.0.2.2", NOBODY):
        pass


def test_who_has_to_wait_is_not_counted_for_it():
    logins = Logins(allowed=2)
    for _ in range(5):
        attempt(logins, TooMany)
    with logins.attempt("192.0.2.1", NOBODY):
        pass


@pytest.mark.parametrize("kind", FAILURES)
def test_each_failure_counts_for_its_user(kind):
    """A password whose answer was lost may have been counted by the cloud."""
    logins = Logins(guesses=1)
    with pytest.raises(kind), logins.guess("ann"):
        raise kind("no")
    with pytest.raises(TooMany), logins.guess("ann"):
        pass
    with logins.guess("bob"):
        pass


def test_a_slow_cloud_takes_its_own_places_only():
    logins = Logins(at_once=2)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(logins.place("slow"))
        with pytest.raises(TooMany), logins.place("slow"):
            pass
        with logins.place("quick"):
            pass
    with logins.place("slow"), logins.place("slow"):
        pass


def test_all_clouds_together_have_an_end():
    logins = Logins(at_once=2, in_all=3)
    with ExitStack() as held:
        for cloud in ("a", "a", "b"):
            held.enter_context(logins.place(cloud))
        with pytest.raises(TooMany), logins.place("c"):
            pass
    with logins.place("c"):
        pass
