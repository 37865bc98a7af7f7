"""What the OpenAPI document promises, held against the API on a real database by requests made from the document."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairchild import Fairchild
from fairchild.context import CurrentJob
from fairchild.web import create_blueprint, polling
from tests.support.app import App

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")  # of how it draws

DOCUMENT = "/ops/api/openapi.json"
ENDLESS = ("GET", "/api/stream")
"""It answers for ten minutes; tests/web/test_stream.py is about it."""
EXAMPLES = 12
"""Of each kind, fitting and not, for each operation."""
ALL = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def application(client: Fairchild) -> Flask:
    flask = Flask("site")
    options: Any = {"authorize": lambda request, right: "admin", "streams": True, "ui": False, "probes": True}
    flask.register_blueprint(create_blueprint(client, **options), url_prefix="/ops")
    return flask


def operations() -> list[tuple[str, str]]:
    flask = application(Fairchild("postgresql://nowhere"))
    document = flask.test_client().get(DOCUMENT).json or {}
    found = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    return [each for each in found if each != ENDLESS]


@pytest.fixture
def places(app: App, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What there is, by the name under which requests speak of it: jobs in several states, a workflow, a worker."""
    monkeypatch.setattr(polling, "WAIT_SECONDS", 0.05)

    @app.task(name="shop.add")
    def add(a: int, b: int = 2) -> int:
        return a + b

    @app.task(name="shop.sell")
    def sell(job: CurrentJob) -> Any:
        job.log("sold", where="here")
        return [add(1), add(2)]

    @app.task(name="shop.fail", max_attempts=1)
    def fail() -> None:
        raise ValueError("no")

    worker = app.work()
    ended = [sell.enqueue(), fail.enqueue(), add.enqueue(1)]
    app.wait(*ended)
    others = [app.client.enqueue("elsewhere", queue="other"), add.enqueue_in(1, hours=1)]
    ids = [str(each.id) for each in (*ended, *others)]
    return {
        "id": [*ids, str(worker.session)],
        "name": ["default", "other"],
        "task": ["shop.add", "shop.sell"],
        "args": [{"a": 1}],
        "ids": [ids],
        "depends_on": [ids[:1], ids[-1:]],
    }


@pytest.mark.parametrize(("method", "path"), operations(), ids=lambda each: each)
def test_an_operation_answers_as_the_document_says(
    app: App, places: dict[str, list[Any]], method: str, path: str
) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    schema = schemathesis.openapi.from_wsgi(DOCUMENT, application(app.client))
    operation = schema[path][method]
    wanted = [
        not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance, checks.negative_data_rejection,
    ]  # fmt: skip

    @ALL
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE), data=st.data())
    def fitting(case: Any, data: st.DataObject) -> None:
        for part in (case.path_parameters, case.body):
            for name in sorted(places.keys() & (part if isinstance(part, dict) else ())):
                part[name] = data.draw(st.sampled_from([part[name], *places[name]]))
        case.call_and_validate(checks=wanted)

    @ALL
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def not_fitting(case: Any) -> None:
        case.call_and_validate(checks=wanted)

    fitting()
    if operation.body or operation.query or operation.path_parameters:
        not_fitting()
