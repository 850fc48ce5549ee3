"""Users, tokens, the audit log, settings and remembered answers in the catalogue."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from sendense.catalog.audit import AuditFilter
from sendense.catalog.replies import Reply
from sendense.errors import AlreadyExists, Busy, Conflict, NotFound, NotSignedIn, Rejected
from sendense.model.access import AuditNote, Grant, Outcome, Role, User
from sendense.model.page import Paging, every
from sendense.model.secret import Secret
from tests.support.fleet import NOW

DAY = timedelta(days=1)
ADA = User("ada", Role.ADMIN, NOW)
BOB = User("bob", Role.TENANT, NOW, grant=Grant(("u1",), ("web-*",)))


@pytest.fixture(autouse=True)
def users(catalog):
    catalog.users.add(ADA)
    catalog.users.add(BOB)


class TestUsers:
    def test_a_user_comes_back_as_it_was(self, catalog):
        assert catalog.users.get("bob") == BOB
        assert catalog.users.page().items == (ADA, BOB)
        assert catalog.users.page(role=Role.ADMIN).items == (ADA,)
        assert catalog.users.any()
        with pytest.raises(AlreadyExists):
            catalog.users.add(ADA)

    def test_the_last_administrator_stays(self, catalog):
        for call in (
            lambda: catalog.users.remove("ada"),
            lambda: catalog.users.edit("ada", role=Role.VIEWER),
            lambda: catalog.users.edit("ada", disabled=True),
        ):
            with pytest.raises(Conflict):
                call()
        assert catalog.users.get("ada") == ADA
        catalog.users.edit("bob", role=Role.ADMIN)
        catalog.users.remove("ada")

    def test_of_two_administrators_that_go_at_once_one_stays(self, catalog):
        catalog.users.edit("bob", role=Role.ADMIN)
        start = threading.Barrier(2)
        refused = []

        def remove(name):
            start.wait()
            try:
                catalog.users.remove(name)
            except Conflict:
                refused.append(name)

        threads = [threading.Thread(target=remove, args=(name,)) for name in ("ada", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1


class TestTokens:
    def test_a_token_is_its_user(self, catalog):
        token, text = catalog.tokens.issue("bob", "laptop", NOW, scopes=("points:read",))
        assert catalog.tokens.check(text, NOW) == (BOB, token)
        assert catalog.tokens.get(token.id).last_used_at == NOW
        assert catalog.tokens.page(user="bob").items[0].id == token.id
        assert catalog.tokens.page(user="ada").items == ()

    def test_what_does_not_count(self, catalog):
        token, text = catalog.tokens.issue("bob", "laptop", NOW, expires_at=NOW + DAY)
        good = text.reveal().decode()
        other = catalog.tokens.issue("bob", "other", NOW)[1].reveal().decode()
        mixed = "_".join((*good.split("_")[:2], other.split("_")[2]))
        for wrong in ("", "x", good[:-1], f"{good}0", mixed, good.upper(), "é" * 20):
            with pytest.raises(NotSignedIn):
                catalog.tokens.check(Secret(wrong), NOW)
        catalog.tokens.check(text, NOW + DAY - timedelta(seconds=1))
        with pytest.raises(NotSignedIn):
            catalog.tokens.check(text, NOW + DAY)
        catalog.users.edit("bob", disabled=True)
        with pytest.raises(NotSignedIn):
            catalog.tokens.check(text, NOW)
        catalog.users.edit("bob", disabled=False)
        catalog.tokens.revoke(token.id)
        with pytest.raises(NotSignedIn):
            catalog.tokens.check(text, NOW)
        with pytest.raises(NotFound):
            catalog.tokens.revoke(token.id)

    def test_they_go_with_their_user(self, catalog):
        _, text = catalog.tokens.issue("bob", "laptop", NOW)
        catalog.users.remove("bob")
        with pytest.raises(NotSignedIn):
            catalog.tokens.check(text, NOW)
        with pytest.raises(NotFound):
            catalog.tokens.issue("bob", "laptop", NOW)


class TestAudit:
    def test_entries_newest_first_and_filters(self, catalog):
        for number in range(5):
            outcome = Outcome.DENIED if number == 3 else Outcome.DONE
            note = AuditNote(f"u{number % 2}", "do", f"s{number}", outcome, "::1", {"n": number})
            catalog.audit.add(note, NOW + DAY * number)
        entries = list(every(lambda at: catalog.audit.page(replace(at, limit=2))))
        assert [entry.detail["n"] for entry in entries] == [4, 3, 2, 1, 0]

        def subjects(**wanted):
            return [
                entry.subject for entry in catalog.audit.page(wanted=AuditFilter(**wanted)).items
            ]

        assert subjects(who="u1") == ["s3", "s1"]
        assert subjects(outcome=Outcome.DENIED) == ["s3"]
        assert subjects(after=NOW + DAY * 2, before=NOW + DAY * 4) == ["s3", "s2"]
        assert subjects(action="none") == []
        assert catalog.audit.forget(NOW + DAY) == 1

    def test_what_a_stranger_sent_fits(self, catalog):
        catalog.audit.add(AuditNote("x" * 5000, "do\x00", "\x00"), NOW)
        assert len(catalog.audit.page().items[0].who) == 255


class TestSettings:
    def test_values_of_json(self, catalog):
        for value in (None, 1, "x", {"a": [1, None]}, False):
            catalog.settings.put("k", value, NOW)
            assert catalog.settings.get("k") == value
        assert catalog.settings.every() == {"k": False}
        catalog.settings.remove("k")
        with pytest.raises(NotFound):
            catalog.settings.get("k")

    def test_secrets(self, catalog):
        assert catalog.secrets.find("ca") is None
        catalog.secrets.put("ca", Secret("1"))
        catalog.secrets.put("ca", Secret("2"))
        assert catalog.secrets.find("ca") == Secret("2")
        catalog.secrets.remove("ca")
        with pytest.raises(NotFound):
            catalog.secrets.remove("ca")


class TestReplies:
    def begin(self, catalog, key="k", request="h", at=NOW):
        return catalog.replies.begin("ada", key, request, at)

    def test_a_request_is_done_once(self, catalog):
        assert self.begin(catalog) is None
        with pytest.raises(Busy):
            self.begin(catalog)
        catalog.replies.finish("ada", "k", Reply(202, {"id": "j"}), NOW)
        assert self.begin(catalog) == Reply(202, {"id": "j"})
        with pytest.raises(Conflict):
            self.begin(catalog, request="another")
        assert self.begin(catalog, key="k2") is None

    def test_one_that_failed_may_be_done_again(self, catalog):
        self.begin(catalog)
        catalog.replies.abandon("ada", "k")
        assert self.begin(catalog, request="another") is None

    def test_a_key_whose_request_died_is_free_after_a_while(self, catalog):
        self.begin(catalog)
        assert self.begin(catalog, at=NOW + timedelta(minutes=10)) is None

    def test_an_answer_is_kept_for_a_day(self, catalog):
        self.begin(catalog)
        catalog.replies.finish("ada", "k", Reply(202, None), NOW)
        assert self.begin(catalog, at=NOW + DAY * 0.99) == Reply(202, None)
        assert self.begin(catalog, at=NOW + DAY) is None
        assert catalog.replies.forget(NOW + 2 * DAY) == 1


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!!", "W10", "WzEsMl0", "bnVsbA", "e30", "WzFd" * 900, "WyJcdTAwMDAiXQ"]
)
def test_a_cursor_that_is_none(catalog, cursor):
    for fetch in (
        lambda at: catalog.jobs.page(at),
        lambda at: catalog.audit.page(at),
        lambda at: catalog.users.page(at),
    ):
        with suppress(Rejected):  # and no other error
            fetch(Paging(cursor=cursor))
