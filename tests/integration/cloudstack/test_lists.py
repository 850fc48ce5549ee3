"""Lists over a real server, that move, are too large, or have no count."""

import pytest

from sendense.cloudstack.transport import Limits
from sendense.errors import (
    NotFound,
)
from sendense.model.secret import Secret
from tests.support.raw_cloud import refused

SECRET = Secret("very-secret-key")
QUICK = Limits(per_second=1000, connect_s=10, silent_s=20)


def test_a_list_that_moves_is_read_whole(serve):
    """A row goes while the second page is about to be read: one slips to the page before."""
    rows = [{"id": f"v{number}"} for number in range(25)]
    asked = []

    def answer(form):
        asked.append(int(form["page"]))
        if len(asked) == 2:
            del rows[0]
        size = int(form["pagesize"])
        start = (int(form["page"]) - 1) * size
        found = {"count": len(rows), "volume": rows[start : start + size]}
        return found if found["volume"] else {}

    _, client = serve(answer)
    pages = list(client.every("listVolumes", "volume", size=10))
    assert {row["id"] for page in pages for row in page} >= {row["id"] for row in rows}
    names = [row["id"] for page in pages for row in page]
    assert len(names) == len(set(names))
    assert client.warnings == ()


def test_a_list_that_never_stands_still_is_taken_as_it_was_seen(serve):
    rows: list[dict[str, str]] = []

    def answer(form):
        rows.append({"id": f"v{len(rows)}"})
        return {"count": len(rows), "volume": rows[:10] if form["page"] == "1" else rows[10:]}

    rows += [{"id": f"v{number}"} for number in range(11)]
    _, client = serve(answer)
    pages = list(client.every("listVolumes", "volume", size=10))
    assert len([row for page in pages for row in page]) > 11
    assert client.warnings == ("listVolumes changed while it was read",)


def test_pages_that_are_too_large_are_halved(serve):
    rows = [{"id": f"v{number}"} for number in range(130)]

    def answer(form):
        size = int(form["pagesize"])
        if size > 100:
            return refused(
                "listVolumes", 431, "Page size can not exceed max allowed page size value: 100"
            )
        start = (int(form["page"]) - 1) * size
        return {"count": len(rows), "volume": rows[start : start + size]}

    cloud, client = serve(answer)
    for _ in range(2):
        pages = list(client.every("listVolumes", "volume"))
        assert [row for page in pages for row in page] == rows
    sizes = [int(form["pagesize"]) for form in cloud.asked]
    assert sizes[:3] == [500, 250, 125]
    # The second list begins with what went well.
    assert sizes.count(500) == 1


def test_pages_that_are_too_heavy_are_halved(serve):
    rows = [{"id": f"v{number}", "userdata": "x" * 1000} for number in range(100)]

    def answer(form):
        size = int(form["pagesize"])
        start = (int(form["page"]) - 1) * size
        return {"count": len(rows), "volume": rows[start : start + size]}

    _, client = serve(answer, limits=Limits(per_second=1000, max_bytes=60_000))
    assert [row for page in client.every("listVolumes", "volume") for row in page] == rows


def test_a_list_without_a_count(serve):
    rows = [{"id": f"v{number}"} for number in range(20)]

    def answer(form):
        start = (int(form["page"]) - 1) * 10
        found = rows[start : start + 10]
        return {"volume": found} if found else {}

    _, client = serve(answer)
    assert [row for page in client.every("listVolumes", None, size=10) for row in page] == rows


def test_the_same_template_in_two_zones_is_two(serve):
    rows = [{"id": "t", "zoneid": "a"}, {"id": "t", "zoneid": "b"}]
    _, client = serve(lambda form: {"count": 2, "template": rows})
    assert list(client.every("listTemplates", "template")) == [rows]


def test_an_empty_list(serve):
    _, client = serve(lambda form: {})
    assert list(client.every("listVolumes", "volume")) == []


def test_a_refusal_in_the_middle_of_a_list(serve):
    _, client = serve(lambda form: refused("listVolumes", 431, "entity does not exist"))
    with pytest.raises(NotFound):
        list(client.every("listVolumes", "volume", id="x"))
