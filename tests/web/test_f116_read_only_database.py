"""F116: where the database takes no writes, pages say so and offer none, reads go on, and writes are told why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from psycopg.conninfo import make_conninfo

from fairchild import Fairchild
from fairchild.tasks import Registry
from tests.support.app import App
from tests.support.cluster import pair
from tests.support.eventually import eventually
from tests.web.conftest import mounted

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def looking(app: App) -> Iterator[str]:
    """The URL of a user who may read and do no more."""
    (schema,) = app.store.sql("SELECT current_schema()")[0]
    app.store.sql("DROP ROLE IF EXISTS fairchild_looking")
    app.store.sql("CREATE ROLE fairchild_looking LOGIN")
    app.store.sql(f'GRANT USAGE ON SCHEMA "{schema}" TO fairchild_looking')
    app.store.sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO fairchild_looking')
    yield make_conninfo(app.url, options="-c role=fairchild_looking")
    app.store.sql("DROP OWNED BY fairchild_looking")
    app.store.sql("DROP ROLE fairchild_looking")


def assert_reads_and_refuses(fc: Fairchild, why: str) -> None:
    """The pages and the API of a client that may only read, with a failed job in it."""
    (job,) = fc.jobs(state="failed").jobs
    client: FlaskClient = mounted(fc)
    for path in ("/ops/", "/ops/jobs", f"/ops/jobs/{job.id}", "/ops/queues", "/ops/workers"):
        page = client.get(path)
        assert page.status_code == 200, (path, page.text)
        assert f"Nothing can be changed now: {why}" in page.text, path
    assert f'disabled title="{why}' in client.get(f"/ops/jobs/{job.id}").text
    assert f'data-key="r" disabled title="{why}' in client.get("/ops/jobs").text
    for path in ("/ops/api/stats", f"/ops/api/jobs/{job.id}", "/ops/metrics", "/ops/readyz"):
        assert client.get(path).status_code == 200, path
    for answer in (
        client.post(f"/ops/api/jobs/{job.id}/retry", json={}),
        client.post("/ops/api/queues/mail/pause", json={}),
        client.post("/ops/queues/mail", data={"action": "pause"}, headers=SAME),
        client.post(f"/ops/jobs/{job.id}/retry", headers=SAME),
    ):
        assert answer.status_code == 503, answer.text
        assert "the database refuses this" in answer.text
        assert "nothing was changed" in answer.text


def fail_one(app: App) -> None:
    @app.task(name="shop.fails", max_attempts=1)
    def fails() -> None:
        raise ValueError

    app.work()
    app.wait(fails.enqueue())
    for worker in app.workers:
        worker.stop(timeout=5)


def test_f116_for_a_user_who_may_only_read(app: App, looking: str) -> None:
    fail_one(app)
    with Fairchild(looking, registry=Registry()) as fc:
        assert_reads_and_refuses(fc, "the database lets its user here only read")


def test_f116_where_transactions_only_read(app: App) -> None:
    fail_one(app)
    url = make_conninfo(app.url, options="-c default_transaction_read_only=on")
    with Fairchild(url, registry=Registry()) as fc:
        assert_reads_and_refuses(fc, "default_transaction_read_only is set here")


def test_f116_on_a_standby() -> None:
    with pair() as (primary, standby):
        Fairchild(primary.url).install()
        with App(primary.url).closing() as made:
            fail_one(made)
        (lsn,) = primary.ask("SELECT pg_current_wal_flush_lsn()::text")[0]
        eventually(lambda: standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn") == [(True,)])
        with Fairchild(standby.url, registry=Registry()) as fc:
            assert_reads_and_refuses(fc, "this database is a standby, which only reads")


def test_f116_where_it_takes_writes_nothing_of_this_is_said(app: App) -> None:
    assert "Nothing can be changed" not in mounted(app.client).get("/ops/").text
