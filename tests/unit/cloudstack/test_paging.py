"""Lists that move under their reader: nothing twice, and nothing missed that only ever stayed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.cloudstack.paging import Pages
from sendense.errors import Rejected


class Moving:
    """A list from which rows go, or to which rows come, before some of the requests."""

    def __init__(self, count, moves, *, says_count=True):
        self.rows = [{"id": f"old{number}"} for number in range(count)]
        self.moves = list(moves)
        self.says_count = says_count
        self.new = 0

    def __call__(self, page, size):
        if self.moves and page > 1:
            self.moves.pop(0)(self)
        found = self.rows[(page - 1) * size : page * size]
        answer = {"count": len(self.rows)} if self.says_count else {}
        return {**answer, "row": found} if found else answer

    def drop(self, where):
        if self.rows:
            del self.rows[where % len(self.rows)]

    def add(self, where):
        self.new += 1
        self.rows.insert(where % (len(self.rows) + 1), {"id": f"new{self.new}"})


def read(moving, size):
    pages = Pages("listRows", moving, size=size, key="row")
    return [row["id"] for page in pages for row in page], pages


@given(st.integers(0, 60), st.integers(1, 12), st.booleans())
def test_a_list_that_stands_still(count, size, says_count):
    names, pages = read(Moving(count, [], says_count=says_count), size)
    assert names == [f"old{number}" for number in range(count)]
    assert not pages.moved


@given(
    st.integers(0, 60),
    st.integers(2, 12),
    st.lists(st.integers(0, 100), max_size=2),
    st.sampled_from(["drop", "add"]),
)
def test_rows_that_go_or_come(count, size, places, what):
    moves = [lambda moving, where=where: getattr(moving, what)(where) for where in places]
    moving = Moving(count, moves)
    names, pages = read(moving, size)
    assert len(names) == len(set(names))
    assert not pages.moved
    assert {row["id"] for row in moving.rows} <= set(names)


def test_a_list_that_never_stands_still_ends():
    moves = [lambda moving: moving.add(0)] * 1000
    names, pages = read(Moving(30, moves), 10)
    assert pages.moved
    assert {f"old{number}" for number in range(30)} <= set(names)


def test_a_refusal_that_no_page_size_mends():
    def refuse(page, size):
        raise Rejected("page size is too large (431)", cs_code=431)

    with pytest.raises(Rejected):
        list(Pages("listRows", refuse, size=500))


def test_rows_without_ids_are_all_given():
    rows = [{"name": "a"}, {"name": "a"}]
    pages = Pages("listRows", lambda page, size: {"count": 2, "row": rows}, size=10)
    assert list(pages) == [rows]
