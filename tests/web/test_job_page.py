"""The page of one job: its attempts, its log, what it waits for, and what can be done to it."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

from tests.support.app import App
from tests.web.pages_support import SAME_ORIGIN, Page


def read(client: FlaskClient, path: str, status: int = 200) -> Page:
    """A page of the site under ``/ops``."""
    answer = client.get(f"/ops/{path}")
    assert answer.status_code == status, (path, answer.status_code, answer.text[-500:])
    return Page(answer.text)


def send(client: FlaskClient, path: str, **form: Any) -> Any:
    return client.post(f"/ops/{path}", data=form, headers=SAME_ORIGIN)


def test_every_attempt_shows_its_error_and_its_traceback(app: App, site: FlaskClient) -> None:
    @app.task(name="shaky", max_attempts=3, backoff=[0])
    def shaky() -> None:
        raise ValueError(f"number {len(app.get(job).errors) + 1} went wrong")

    job = app.client.enqueue("shaky")
    app.work()
    app.wait(job)
    page = read(site, f"jobs/{job.id}")
    told = page.all("details", class_="att-error")
    assert len(told) == 3
    for number, each in enumerate(told, 1):
        assert f"ValueError number {number} went wrong" in each.said
        assert "in shaky" in page.one("pre", id=f"traceback-{number}").said
    in_api = site.get(f"/ops/api/jobs/{job.id}").json
    assert in_api is not None
    assert [each["message"] for each in in_api["errors"]] == [f"number {n} went wrong" for n in (1, 2, 3)]
    assert all("in shaky" in each["traceback"] for each in in_api["errors"])


def test_attempts_that_are_not_kept_are_counted(app: App, site: FlaskClient) -> None:
    job = app.client.enqueue("lost", max_attempts=20)
    kept = [1, 2, 9]
    app.store.sql(
        """UPDATE {jobs} SET attempt = 9, errors = (
             SELECT jsonb_agg(jsonb_build_object('attempt', n, 'kind', 'error', 'type', 'E', 'at', now()))
               FROM unnest(%(kept)s::int[]) AS n) WHERE id = %(id)s""",
        kept=kept,
        id=job.id,
    )
    assert "6 attempts between these are not kept" in read(site, f"jobs/{job.id}").said
