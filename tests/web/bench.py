"""How long the server takes for each page among many jobs: ``make bench-web`` (ARGS="--jobs 10000000 --most 100").

Every answer is made anew: nothing is kept from one request to the next. Then the page of a workflow of 100,000 jobs,
what fifty open tabs cost in which nothing happens, the weight of a first view, and, where there is a Chromium, how soon
it is painted. Exit 1 if one is past its limit.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import http.client
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from uuid import UUID

from flask import Flask
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.bench.arena import END_FILLED, FILL_CHUNK, FILL_ENDED
from fairchild.bench.machine import cpu_seconds
from fairchild.db.connect import Link
from fairchild.embedded import TemporaryServer
from fairchild.tasks import Registry
from fairchild.web import create_blueprint
from fairchild.web.pages import site as pages
from fairchild.worker import Worker
from tests.browser.conftest import CHROMIUM
from tests.browser.shop import SLOW, fill, register
from tests.support.eventually import eventually

PAGES = [
    "", "?window=7d", "jobs", "jobs?q=state:failed", "jobs?q=state:completed", "jobs?q=task:bench.noop",
    "jobs?q=task:none", "jobs/{failed}", "jobs/{running}", "jobs/{done}", "workflows", "workflows/{flow}",
    "workflows/{flow}?view=timeline",
    "workflows/{flow}?view=list&group=root", "queues", "queues/money", "workers", "tasks", "tasks/shop.mail.send_email",
    "new?task=shop.billing.charge", "errors", "errors/{error}", "workers/{worker}", "system", "audit",
]  # fmt: skip

FLOW_JOBS = 99_998
"""With the job before and the one after them as many as one may call: 100,000."""
FLOW_MOST = 150.0
FIRST_MOST = 40 * 1024
PAINT_MOST = 300.0
PAINTED_PAGES = ["", "jobs", "jobs/{failed}", "workflows/{flow}"]
TABS = ["/?_live=1", "/jobs?_live=1", "/queues?_live=1", "/workers?_live=1", "/workflows?_live=1"]
TABS_MOST = 5.0
TAB_SECONDS = 30.0
STILL, MOMENTS = 15, 0.5
"""As live.js: after so many answers that changed nothing a tab asks half as often, and all ask at the same moments."""
STILL_SECONDS = 40.0


def main() -> int:
    """Fill a database, ask for every page, print what it took."""
    parser = argparse.ArgumentParser(prog="make bench-web", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="ended jobs in the tables")
    parser.add_argument("--most", type=float, default=60.0, help="milliseconds that a page may take, p95")
    parser.add_argument("--times", type=int, default=30, help="requests of each page")
    parser.add_argument("--tabs", type=int, default=50, help="open tabs in which nothing happens")
    parser.add_argument("--paints", type=int, default=9, help="fresh browsers that paint each of the pages")
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
            slow += _large_workflow(client, site, given.times)
            slow += _first_view(site)
            painted = [each.format(**names) for each in PAINTED_PAGES]
            slow += _first_paint(database.url, painted, given.paints) if given.paints else []
            slow += _idle_tabs(database.url, given.tabs) if given.tabs else []
            SLOW.set()
        client.disconnect()
    print(f"past its limit: {', '.join(slow)}" if slow else "everything within its limit")
    return 1 if slow else 0


def _history(link: Link, jobs: int) -> None:
    for first in range(1, jobs + 1, FILL_CHUNK):
        chunk = {"first": first, "last": min(jobs, first + FILL_CHUNK - 1)}
        link.rows(FILL_ENDED, chunk)
        link.rows(END_FILLED, chunk)
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


def _compose(client: Fairchild) -> UUID:
    """A fan-out that nobody takes up, so that its jobs are there as long as it is looked at."""
    with client.workflow("reports.yearly") as flow:
        first = flow.call("shop.reports.load_users")
        prices = [
            flow.call(f"shop.exports.part{n % 40}", {"symbol": f"s{n}", "users": first}, queue="nobody")
            for n in range(FLOW_JOBS)
        ]
        _ = flow.call("shop.exports.total", {"some": prices[:1000]}, queue="nobody")
    client.wait([first.job_id], timeout=120)  # with it, all of them become available
    with client.database.link() as link:
        link.script("VACUUM ANALYZE")
    return flow.id


def _large_workflow(client: Fairchild, site: FlaskClient, times: int) -> list[str]:
    path = f"workflows/{_compose(client)}"
    gc.collect()  # what was made of its jobs here is no part of any page
    p95 = _measure(site, path, times)
    text = site.get(f"/fairchild/{path}").text
    start = text.rindex("<svg", 0, text.index('id="node-'))
    # Each node holds a drawing of its state, so the end is looked for behind the last of them.
    svg = text[start : text.index("</svg>", text.index("</a>", text.rindex('id="node-')))]
    nodes, size = svg.count('id="node-'), len(svg.encode()) / 1024
    print(f"a workflow of {FLOW_JOBS:,} jobs: {nodes} nodes, {size:.1f} KiB of SVG", flush=True)
    return [path] if p95 > FLOW_MOST or nodes > 150 or size > 60 else []


def _first_view(site: FlaskClient) -> list[str]:
    """What a browser without a cache loads for the overview."""
    page = site.get("/fairchild/")
    files = set(re.findall(r'(?:href|src)="(/fairchild/static/[^"]+)"', page.text))
    weight = len(gzip.compress(page.data)) + sum(len(gzip.compress(site.get(each).data)) for each in files)
    print(f"first view: {weight / 1024:.1f} KiB gzipped in {1 + len(files)} files", flush=True)
    return ["the first view"] if weight > FIRST_MOST else []


@contextmanager
def _ui(url: str) -> Iterator[tuple[int, int]]:
    """`fairchild ui` as people run it: its port and its process."""
    port = _free_port()
    program = [sys.executable, "-m", "fairchild", "ui", "--port", str(port)]
    with subprocess.Popen(
        program, env={**os.environ, "FAIRCHILD_DATABASE_URL": url}, stderr=subprocess.DEVNULL
    ) as server:
        try:
            eventually(lambda: _answers(port), 30)
            yield port, server.pid
        finally:
            server.terminate()


def _first_paint(url: str, paths: list[str], times: int) -> list[str]:
    """When a browser without a cache has painted the first of a page, from the moment it was asked to go there."""
    if CHROMIUM is None or find_spec("playwright") is None:
        print("first contentful paint: not measured; it takes Chromium, and what `make browser` installs", flush=True)
        return []
    from tests.browser.paint import first_paints

    slow = []
    with _ui(url) as (port, _):
        for path in paths:
            took = first_paints(f"http://localhost:{port}/{path}", times)
            median, worst = statistics.median(took), max(took)
            print(f"first contentful paint: {median:5.0f} ms p50 {worst:6.0f} ms at most  /{path}", flush=True)
            if median > PAINT_MOST:
                slow.append(f"the first paint of /{path}")
    return slow


def _idle_tabs(url: str, tabs: int) -> list[str]:
    """CPU of `fairchild ui` while tabs ask, each every two seconds, for what has not changed; once they have it."""
    with _ui(url) as (port, process):
        stop = threading.Event()
        answers: Counter[int] = Counter()
        threads = [threading.Thread(target=_tab, args=(port, n, stop, answers)) for n in range(tabs)]
        for each in threads:
            each.start()
        time.sleep(STILL_SECONDS)
        before, own, since = cpu_seconds(process), Counter(answers), time.monotonic()
        time.sleep(TAB_SECONDS)
        after, took = cpu_seconds(process), time.monotonic() - since
        stop.set()
        for each in threads:
            each.join()
    share = 100 * ((after or 0.0) - (before or 0.0)) / took
    said = ", ".join(f"{n} x {status}" for status, n in sorted((answers - own).items()))
    print(f"{tabs} idle tabs: {share:.1f} % of a core ({said} in {took:.0f} s)", flush=True)
    return ["idle tabs"] if share > TABS_MOST else []


def _tab(port: int, number: int, stop: threading.Event, answers: Counter[int]) -> None:
    """What live.js does: a view's fragments, if they have changed."""
    path = TABS[number % len(TABS)]
    etag, same = "", 0
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    stop.wait(2 * number / 50)
    while not stop.is_set():
        connection.request("GET", path, headers={"If-None-Match": etag} if etag else {})
        answer = connection.getresponse()
        answer.read()
        answers[answer.status] += 1
        etag = answer.headers.get("ETag") or etag
        same = same + 1 if answer.status == 304 else 0
        pause = 2.0 if same < STILL else 4.0
        stop.wait(pause - (time.time() + pause) % MOMENTS)
    connection.close()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("localhost", port, timeout=5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
