"""How commands end: one exit code per class of error, one message, JSON where it is asked for."""

from __future__ import annotations

import errno

import pytest

from sendense import errors
from sendense.cli.exitcodes import MEANINGS, ExitCode, exit_code_of, worst
from tests.support.builders import a_machine_survey, a_point
from tests.unit.cli.stage import document

ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.SendenseError)
]
BY_CLASS = {
    errors.SendenseError: 1,
    errors.Rejected: 2,
    errors.NotFound: 3,
    errors.AlreadyExists: 2,
    errors.Busy: 4,
    errors.Unavailable: 5,
    errors.Stalled: 5,
    errors.Damaged: 6,
    errors.SourceChanged: 6,
    errors.OutOfSpace: 7,
    errors.StrictWarning: 8,
    errors.Unsupported: 9,
    errors.Conflict: 2,
    errors.NotSignedIn: 2,
    errors.SecondStep: 2,
    errors.NotAllowed: 10,
    errors.Held: 10,
    errors.Cancelled: 130,
}


def test_every_class_of_error_has_its_code():
    assert {kind: int(exit_code_of(kind("x"))) for kind in ERRORS} == BY_CLASS


def test_every_code_has_a_meaning_and_a_rank():
    assert set(MEANINGS) == set(ExitCode)
    assert all(worst([code]) is code for code in ExitCode)


def test_the_worst_is_told():
    assert worst([ExitCode.BUSY, ExitCode.DAMAGED, ExitCode.OK]) is ExitCode.DAMAGED
    assert worst([ExitCode.STRICT_WARNING, ExitCode.NOT_FOUND]) is ExitCode.NOT_FOUND
    assert worst([]) is ExitCode.OK


@pytest.mark.parametrize("kind", BY_CLASS, ids=lambda kind: kind.code)
def test_error_for_people(stage, capsys, kind):
    stage.add().error = kind("it went wrong", hint="do this")
    assert stage.run("points", "list", "-r", "mem") == BY_CLASS[kind]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: it went wrong",
        "  hint: do this",
        f"  code: {kind.code} (exit code {BY_CLASS[kind]})",
    ]


@pytest.mark.parametrize("kind", BY_CLASS, ids=lambda kind: kind.code)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_error_for_scripts(stage, capsys, kind, place):
    stage.add().error = kind("it went wrong", hint="do this", path="x")
    command = ["points", "list", "-r", "mem"]
    arguments = ["--json", *command] if place == "before" else [*command, "--json"]
    assert stage.run(*arguments) == BY_CLASS[kind]
    captured = capsys.readouterr()
    assert captured.err == ""
    assert document(captured) == {
        "error": {
            "code": kind.code,
            "message": "it went wrong",
            "hint": "do this",
            "retryable": kind.retryable,
            "data": {"path": "x"},
            "exit_code": BY_CLASS[kind],
        }
    }


def test_a_bug_says_that_it_is_one(stage, capsys):
    stage.surveys = [a_machine_survey()]
    stage.troubles["i-2-10-VM"] = KeyError("vda")
    assert stage.run("vm", "show", "i-2-10-VM") == 1
    captured = capsys.readouterr()
    assert "this is a bug in Sendense; please report it" in captured.err
    assert "KeyError: 'vda'" in captured.err
    assert "Traceback" not in captured.err


def test_traceback_is_there_for_who_wants_it(stage, capsys):
    stage.surveys = [a_machine_survey()]
    stage.troubles["i-2-10-VM"] = KeyError("vda")
    assert stage.run("vm", "show", "i-2-10-VM", "-vv") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 7), (errno.EACCES, 10), (errno.EROFS, 10), (errno.EIO, 1)]
)
def test_errors_of_the_operating_system(stage, capsys, number, code):
    stage.surveys = [a_machine_survey()]
    stage.troubles["i-2-10-VM"] = OSError(number, "it says no")
    assert stage.run("vm", "show", "i-2-10-VM") == code
    assert "it says no" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["points", "lst"],
        ["points", "show"],
        ["points", "list", "--bogus"],
        ["backup", "--mode", "sometimes", "x"],
        ["backup", "--threshold", "much", "x"],
        ["backup"],
        ["backup", "x", "--all"],
        ["backup", "x", "y", "--xml", "z"],
        ["prune", "--keep-last", "1"],
        ["prune", "--all"],
        ["prune", "x", "--keep-within", "soon"],
        ["verify"],
        ["verify", "p1", "--all"],
    ],
    ids=" ".join,
)
def test_usage(stage, capsys, arguments):
    stage.add(a_point())
    assert stage.run(*arguments, "-r", "mem", "--json") == 2
    assert document(capsys.readouterr())["error"]["code"] == "rejected"


def test_usage_for_people_leads_to_the_help(stage, capsys):
    assert stage.run("points", "list", "--bogus") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "'sendense points list --help'" in captured.err


def test_help_lists_the_exit_codes(stage, capsys):
    assert stage.run("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "130 cancelled by a signal" in text


def test_without_a_command_the_help_comes_on_standard_error(stage, capsys):
    assert stage.run() == 2
    assert "Usage:" in "".join(capsys.readouterr())
