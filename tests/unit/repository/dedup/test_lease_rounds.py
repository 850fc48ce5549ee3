"""One thread that is there only while it has something to do."""

from __future__ import annotations

import threading

from sendense.repository.dedup.lease_rounds import Rounds
from tests.unit.repository.dedup.lease_stage import eventually


def test_it_goes_on_until_there_is_nothing_to_do():
    answers = [0.001, 0.001, None]
    rounds = Rounds(lambda: answers.pop(0), after_bug_s=0)
    rounds.within(0)
    eventually(lambda: rounds._thread is None)
    assert answers == []


def test_what_comes_up_during_the_last_round_has_a_round_of_its_own():
    inside, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(len(calls))
        inside.set()
        assert go_on.wait(5)

    rounds = Rounds(work, after_bug_s=0)
    rounds.within(0)
    assert inside.wait(5)
    rounds.within(0)
    go_on.set()
    eventually(lambda: rounds._thread is None)
    assert calls == [0, 1]


def test_the_next_round_can_be_brought_forward():
    calls = []
    rounds = Rounds(lambda: calls.append(1), after_bug_s=0)
    rounds.within(600)
    rounds.within(1200)
    rounds.within(0)
    eventually(lambda: rounds._thread is None)
    assert calls == [1]


def test_the_end_of_nothing():
    rounds = Rounds(lambda: None, after_bug_s=0)
    rounds.end()
    assert rounds._thread is None
    rounds.within(600)
    rounds.end()
    eventually(lambda: rounds._thread is None)


def test_a_bug_is_logged_and_ends_nothing(caplog):
    answers = [ZeroDivisionError(), None]

    def work() -> float | None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return answer

    rounds = Rounds(work, after_bug_s=0)
    rounds.within(0)
    eventually(lambda: rounds._thread is None)
    assert answers == []
    assert "ZeroDivisionError" in caplog.text
