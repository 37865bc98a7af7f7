"""The document and the routes are the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.rules.rights import RIGHTS
from fairchild.web import create_blueprint
from tests.web.pages_support import Page


def document(site: FlaskClient) -> dict[str, Any]:
    found: Any = site.get("/ops/api/openapi.json").json
    return dict(found)


def test_every_route_of_the_api_is_described_and_nothing_else(mount: Callable[..., FlaskClient]) -> None:
    flask = Flask("routes")
    flask.register_blueprint(create_blueprint(Fairchild("postgresql://nowhere"), ui=False, streams=True))
    served = {
        (method.lower(), re.sub(r"<(?:fairchild_any:)?(\w+)>", r"{\1}", rule.rule))
        for rule in flask.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS") and rule.endpoint != "static" and "no_such" not in rule.endpoint
    }
    paths = document(mount(streams=True))["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == served


def test_an_operation_says_what_it_does_needs_and_answers(site: FlaskClient) -> None:
    found = document(site)
    names = []
    for path, methods in found["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert operation["summary"].endswith("."), path
            rights = operation["description"].removeprefix("Needs the right ").removesuffix(".").split(" or ")
            assert set(rights) <= RIGHTS
            given = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert given == set(re.findall(r"{(\w+)}", path))
            assert {"401", "403", "500", "503"} <= set(operation["responses"])
    assert len(names) == len(set(names))
    assert found["openapi"].startswith("3.1")


def test_the_document_is_a_page_too(mount: Callable[..., FlaskClient]) -> None:
    client = mount(streams=True)
    answer = client.get("/ops/api/docs")
    page = Page(answer.text)
    ids = {each.attrs["id"] for each in page.elements if "id" in each.attrs}
    for path, methods in document(client)["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page.said
            assert f"{operation['operationId']}-h" in ids
            assert operation["description"] in page.said
    assert all(each.attrs["href"].removeprefix("#") in ids for each in page.all("a") if each.attrs["href"][0] == "#")
    assert "a whole number, 0 to 9" in page.said
    assert client.get(page.one("a", href="/ops/api/openapi.json").attrs["href"]).status_code == 200
    assert mount(ui=False).get("/ops/api/docs").status_code == 404
