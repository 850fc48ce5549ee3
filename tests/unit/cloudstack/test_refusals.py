"""Each refusal of CloudStack says what an operator should do."""

import pytest

from sendense.cloudstack import refusals
from sendense.cloudstack.answers import Refused
from sendense.errors import (
    Busy,
    Conflict,
    NotAllowed,
    NotFound,
    Rejected,
    SendenseError,
    Unavailable,
)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (405, "Method not allowed", Rejected),
        (429, "The given user has reached his/her account api limit", Busy),
        (430, "malformed", Rejected),
        (431, "Unable to execute: pagesize too large", Rejected),
        (
            431,
            "Invalid value due to incorrect long value format, or entity does not exist",
            NotFound,
        ),
        (431, "Unable to find a virtual machine with id 7", NotFound),
        (431, "Volume is in Snapshotting state", Busy),
        (431, "There are other active snapshot tasks on the volume", Busy),
        (431, "Virtual machine state Migrating does not allow it", Busy),
        (431, "Please stop the virtual machine before", Rejected),
        (432, "The given command does not exist or is not available", NotAllowed),
        (511, "two factor", NotAllowed),
        (530, "Internal error executing command", Unavailable),
        (531, "Acct does not have permission", NotAllowed),
        (532, "Maximum number of resources of type 'volume' exceeded", Rejected),
        (533, "Insufficient capacity", Busy),
        (534, "Resource unavailable", Unavailable),
        (535, "allocation", Rejected),
        (536, "in use", Busy),
        (537, "conflict", Conflict),
        (599, "who knows", Unavailable),
    ],
)
def test_kind(code, text, kind):
    error = refusals.refusal("startVirtualMachine", Refused(code, text), cloud="berlin")
    assert type(error) is kind
    assert error.data["cs_code"] == code
    assert error.message == f"berlin refuses startVirtualMachine: {text} ({code})"


def test_a_missing_permission_names_it_and_the_way_out():
    error = refusals.refusal("importVolume", Refused(432, "no"))
    assert "allow importVolume" in str(error.hint)
    assert "sendense cloud role" in str(error.hint)


def test_a_job_that_failed_on_a_host_is_not_tried_for_ever():
    error = refusals.failed_job("attachVolume", Refused(530, "libvirt says no"), job_id="j")
    assert type(error) is SendenseError
    assert not error.retryable


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("job cancelled because of management server restart", Unavailable),
        ("cannot acquire state change lock (held by BackupBegin)", Busy),
    ],
)
def test_a_job_that_may_succeed_later(text, kind):
    error = refusals.failed_job("attachVolume", Refused(530, text), job_id="j")
    assert type(error) is kind
    assert error.retryable


@pytest.mark.parametrize(("skew", "first"), [(700, "700 s ahead of"), (-90, "90 s behind")])
def test_a_refused_key_with_a_wrong_clock_names_the_clock_first(skew, first):
    error = refusals.not_known_to_it("listZones", "unable to verify", skew_s=skew)
    assert first in str(error.hint)
    assert "api.key.access" in str(error.hint)


def test_a_refused_key_with_a_right_clock_does_not():
    error = refusals.not_known_to_it("listZones", "unable to verify", skew_s=1)
    assert "clock" not in str(error.hint)
