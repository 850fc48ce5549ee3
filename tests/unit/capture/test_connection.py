"""What libvirt says, and what a caller should do about it."""

from __future__ import annotations

import errno
import threading

import libvirt
import pytest

from sendense.capture import connection as connections
from sendense.errors import (
    Busy,
    NotAllowed,
    NotFound,
    OutOfSpace,
    SendenseError,
    SourceChanged,
    Unavailable,
    Unsupported,
)

TEST_DRIVER = "test:///default"


def said(code: int, text: str, number: int = -1) -> libvirt.libvirtError:
    """An error as the binding makes it: nine fields, the code first, int1 the eighth."""
    error = libvirt.libvirtError(text)
    error.err = (code, 10, text, 2, None, None, None, number, -1)
    return error


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (42, "Domain not found: no domain with matching name 'x'", NotFound),
        (103, "Checkpoint 'k1' for incremental backup of disk 'vda' not found", NotFound),
        (39, "client socket is closed", Unavailable),
        (38, "Cannot recv data: Connection reset by peer", Unavailable),
        (84, "cannot perform disk backup for inactive domain", Unsupported),
        (74, "QEMU guest agent is not configured", Unsupported),
        (86, "QEMU guest agent is not connected", Unavailable),
        (88, "access denied: 'QEMU' denied access", NotAllowed),
        (109, "checkpoint inconsistent: missing or broken bitmap 'k3'", SourceChanged),
        (1, "internal error: disk 'vda' has a blockjob assigned", Busy),
        (1, "nbd-server-start: Failed to bind socket: Permission denied", NotAllowed),
        (1, 'Failed to get "write" lock\nIs another process using the image [/x]?', Busy),
        (9, "domain 'x' is already active", Busy),
        (1, "blockdev-add: Could not create: No space left on device", OutOfSpace),
    ],
)
def test_kinds(code, text, kind):
    error = connections.translate(said(code, text), "doing it")
    assert type(error) is kind
    assert error.message == f"doing it failed: {text}"
    assert error.data["libvirt_code"] == code


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EACCES, NotAllowed), (errno.ENOSPC, OutOfSpace), (errno.EPIPE, Unavailable)],
)
def test_the_errno_of_a_system_call_counts(number, kind):
    assert type(connections.translate(said(38, "something", number), "doing it")) is kind


def test_an_unknown_number_is_not_guessed():
    error = connections.translate(said(9999, "a new thing"), "doing it")
    assert type(error) is SendenseError
    assert not error.retryable


def test_an_error_without_fields_keeps_its_words():
    raised = libvirt.libvirtError("virDomainGetInfo() failed")
    # The binding fills a new error from the last one of this thread.
    raised.err, raised.args = None, ("virDomainGetInfo() failed",)
    error = connections.translate(raised, "doing it")
    assert "virDomainGetInfo" in error.message


def test_the_holder_of_the_job_lock_is_named():
    text = (
        "Timed out during operation: cannot acquire state change lock "
        "(held by monitor=remoteDispatchDomainBackupBegin)"
    )
    error = connections.translate(said(68, text), "migrating")
    assert type(error) is Busy
    assert error.data["holder"] == "BackupBegin"
    assert "held by libvirt's job BackupBegin" in error.message
    assert error.hint


def test_a_refused_daemon_says_where():
    with pytest.raises(Unavailable, match="/nonexistent") as caught:
        connections.connect("qemu+unix:///system?socket=/nonexistent")
    assert "systemctl" in (caught.value.hint or "")


def test_errors_names_what_was_done():
    with (
        connections.open_host(TEST_DRIVER) as connection,
        pytest.raises(NotFound, match="looking for it failed"),
        connections.errors("looking for it"),
    ):
        connection.lookupByName("nobody")


def test_nothing_is_printed_and_one_loop_runs(capfd):
    for _ in range(3):
        with connections.open_host(TEST_DRIVER) as connection:
            assert connection.isAlive()
    with pytest.raises(Unavailable):
        connections.connect("qemu+unix:///system?socket=/nonexistent")
    assert capfd.readouterr() == ("", "")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("libvirt-events") == 1


def test_closing_twice_is_no_error():
    connection = connections.connect(TEST_DRIVER)
    connections.close(connection)
    connections.close(connection)
