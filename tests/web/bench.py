"""How long the server takes for each page among many jobs: ``make bench-web`` (ARGS="--jobs 10000000 --most 100").

Every answer is made anew: nothing is kept from one request to the next. Exit 1 if the 95th percentile of a page is
past the limit.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import time

from flask import Flask
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.bench.arena import END_FILLED, FILL_CHUNK, FILL_ENDED
from fairchild.db.connect import Link
from fairchild.embedded import TemporaryServer
from fairchild.tasks import Registry
from fairchild.web import create_blueprint
from fairchild.web.pages import site as pages
from fairchild.worker import Worker
from tests.browser.shop import SLOW, fill, register

PAGES = [
    "", "?window=7d", "jobs", "jobs?q=state:failed", "jobs?q=state:completed", "jobs?q=task:bench.noop",
    "jobs?q=task:none", "jobs/{failed}", "jobs/{running}", "jobs/{done}", "workflows", "workflows/{flow}",
    "workflows/{flow}?view=timeline",
    "workflows/{flow}?view=list&group=root", "queues", "queues/money", "workers", "tasks", "tasks/shop.mail.send_email",
    "new?task=shop.billing.charge", "errors", "errors/{error}", "workers/{worker}", "system", "audit",
]  # fmt: skip


def main() -> int:
    """Fill a database, ask for every page, print what it took."""
    parser = argparse.ArgumentParser(prog="make bench-web", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="ended jobs in the tables")
    parser.add_argument("--most", type=float, default=60.0, help="milliseconds that a page may take, p95")
    parser.add_argument("--times", type=int, default=30, help="requests of each page")
    given = parser.parse_args()
    pages.LIVE_SECONDS = pages.SHELL_SECONDS = 0.0
    with TemporaryServer(durable=False) as database:
        client = Fairchild(database.url, registry=Registry())
        client.install()
        register(client)
        with Worker(client, ["default", "money", "media"], 4, name="web-1"):
            names = fill(client, evil=False)
            with client.database.link() as link:
                _history(link, given.jobs)
            app = Flask("bench")
            app.register_blueprint(create_blueprint(client), url_prefix="/fairchild")
            site = app.test_client()
            slow = [path for path in PAGES if _measure(site, path.format(**names), given.times) > given.most]
            SLOW.set()
        client.disconnect()
    print(f"past {given.most:g} ms: {', '.join(slow)}" if slow else f"every page within {given.most:g} ms")
    return 1 if slow else 0


def _history(link: Link, jobs: int) -> None:
    for first in range(1, jobs + 1, FILL_CHUNK):
        link.rows(FILL_ENDED, {"first": first, "last": min(jobs, first + FILL_CHUNK - 1)})
        link.rows(END_FILLED, {"first": first})
    link.script("VACUUM ANALYZE")


def _measure(site: FlaskClient, path: str, times: int) -> float:
    """Milliseconds, p95."""
    took = []
    size = 0
    site.get(f"/fairchild/{path}")  # its template has been read
    for _ in range(times):
        before = time.perf_counter()
        answer = site.get(f"/fairchild/{path}")
        took.append((time.perf_counter() - before) * 1000)
        assert answer.status_code == 200, (path, answer.status)
        size = len(gzip.compress(answer.data))
    p95 = statistics.quantiles(took, n=20)[-1]
    print(
        f"{statistics.median(took):8.1f} ms p50 {p95:8.1f} ms p95 {size / 1024:6.1f} KiB gzipped  /{path}", flush=True
    )
    return p95


if __name__ == "__main__":
    sys.exit(main())
