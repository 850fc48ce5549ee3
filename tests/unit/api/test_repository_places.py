"""One place of a repository, however it is written."""

import pytest

from sendense.api.repository_places import place_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/srv/a", "qcow2:/srv/a/"),
        ("/srv/a", "dedup:file:///srv/b/../a"),
        ("//srv/a", "/srv/./a"),
        ("s3://b/p", "dedup:s3://b/p/?region=eu-1"),
        ("s3://b/p?endpoint=https://h", "s3://b/p?endpoint=https://h/&path_style=true"),
    ],
)
def test_one_place(one: str, other: str) -> None:
    assert place_of(one) == place_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/srv/a", "/srv/b"),
        ("s3://b/p", "gs://b/p"),
        ("s3://b/p", "s3://b/p?endpoint=https://h"),
        ("azure://c/p?account=x", "azure://c/p?account=y"),
    ],
)
def test_two_places(one: str, other: str) -> None:
    assert place_of(one) != place_of(other)
