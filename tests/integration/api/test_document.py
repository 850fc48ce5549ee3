"""The OpenAPI document, and the page about the API, tell everything."""

from __future__ import annotations

import re

import pytest

from tests.house.tree import ROOT

PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
ORDER = ("admin", "operator", "viewer", "tenant")


@pytest.fixture
def document(admin):
    return admin.get("/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path.removeprefix('/api/v1')}", operation


def test_every_operation_and_parameter_is_described(document):
    for name, operation in operations(document):
        assert operation["description"], name
        for parameter in operation.get("parameters", ()):
            said = parameter.get("description") or parameter["schema"].get("description")
            assert said, (name, parameter["name"])


def test_every_operation_says_whom_it_is_for_and_how_it_fails(document):
    for name, operation in operations(document):
        public = operation["x-sendense-roles"] == []
        assert operation["security"] == ([] if public else [{"token": []}]), name
        wanted = {"422", "500", "503"} if public else {"401", "403", "422", "429", "500", "503"}
        assert wanted <= operation["responses"].keys(), name
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], (name, status)


def test_what_is_sent_has_examples(document):
    schemas = document["components"]["schemas"]
    for name, operation in operations(document):
        body = operation.get("requestBody")
        if body is None:
            continue
        shape = schemas[body["content"]["application/json"]["schema"]["$ref"].split("/")[-1]]
        assert shape["description"], name
        fields = shape["properties"].values()
        if shape.get("required") and not {"repository_id", "point_id", "value", "role"} & set(
            shape["required"]
        ):
            assert any("examples" in field for field in fields), name


def test_the_page_lists_every_route_with_its_roles(document):
    rows = re.findall(r"^\| `([A-Z]+ \S+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    listed = {name: roles.strip() for name, roles in rows}
    served = {
        name: ", ".join(role for role in ORDER if role in operation["x-sendense-roles"])
        or "everybody"
        for name, operation in operations(document)
    }
    assert listed == served
