"""The document and the routes are the same."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.rules.rights import RIGHTS
from fairchild.web import create_blueprint


def document(site: FlaskClient) -> dict[str, Any]:
    found: Any = site.get("/ops/api/openapi.json").json
    return dict(found)


def test_every_route_of_the_api_is_described_and_nothing_else(site: FlaskClient) -> None:
    flask = Flask("routes")
    flask.register_blueprint(create_blueprint(Fairchild("postgresql://nowhere"), ui=False))
    served = {
        (method.lower(), re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in flask.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS") and rule.endpoint != "static" and "no_such" not in rule.endpoint
    }
    paths = document(site)["paths"]
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
