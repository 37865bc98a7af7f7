"""A past for the shop's charts, made up but the same each time: an hour of work, and a workflow half done."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

from fairchild import Fairchild
from fairchild.db.statement import Sql
from fairchild.rules.histogram import empty, note
from tests.support.eventually import eventually

SEED = 7
MINUTES = 60
USUAL = {
    # (queue, task): jobs a minute, how many of a thousand fail, seconds that they wait and run
    ("default", "shop.mail.send_email"): (420, 2, 0.03, 0.08),
    ("money", "shop.billing.charge"): (90, 30, 0.05, 0.4),
    ("default", "shop.reports.fetch_price"): (150, 8, 0.2, 0.02),
    ("media", "shop.media.transcode"): (6, 40, 2.5, 31.0),
}
PAST = Sql(
    "test_past",
    "INSERT INTO {minutes} (minute, queue, task, inserted, completed, failed, waits, runs) "
    "VALUES (date_trunc('minute', now()) - %(ago)s::interval, %(queue)s, %(task)s, %(made)s, %(completed)s, "
    "%(failed)s, %(waits)s, %(runs)s)",
)
TOTAL = Sql("test_total", "INSERT INTO {counters} VALUES ('epoch', %(queue)s, %(task)s, %(state)s, %(n)s)")


def an_hour(client: Fairchild) -> None:
    """The minutes before this one."""
    dice = random.Random(SEED)
    totals: Counter[tuple[str, str, str]] = Counter()
    with client.database.link() as link:
        for minute in range(1, MINUTES):
            ago = timedelta(minutes=minute)
            nothing = {"made": 0, "completed": 0, "failed": 0, "waits": None, "runs": None}
            link.rows(PAST, {"ago": ago, "queue": "", "task": "", **nothing})
            for (queue, task), (often, bad, wait, run) in USUAL.items():
                jobs = int(often * dice.uniform(0.6, 1.15) * (1.5 if minute in (11, 12, 13, 38) else 1))
                failed = sum(dice.random() < bad / 1000 for _ in range(jobs))
                waits, runs = empty(), empty()
                for _ in range(jobs):
                    note(waits, dice.expovariate(1 / wait))
                    note(runs, dice.expovariate(1 / run))
                row = {"ago": ago, "queue": queue, "task": task, "made": jobs, "waits": waits, "runs": runs}
                link.rows(PAST, {**row, "completed": jobs - failed, "failed": failed})
                totals.update({(queue, task, "completed"): jobs - failed, (queue, task, "failed"): failed})
        for (queue, task, state), n in totals.items():
            link.rows(TOTAL, {"queue": queue, "task": task, "state": state, "n": n})


def half_done(client: Fairchild) -> UUID:
    """A workflow with jobs in every state, once they are there."""
    price = "shop.reports.fetch_price"
    with client.workflow("shop.reports.rebalance") as flow:
        users = flow.call("shop.reports.load_users")
        rates = [flow.call(price, {"symbol": f"fx{n}"}) for n in range(24)]
        total = flow.call("shop.reports.total", {"prices": rates, "users": users})
        sure = [flow.call(price, {"symbol": f"p{n}" if n % 90 else "tech3"}).or_else(0.0) for n in range(630)]
        late = [flow.call(price, {"symbol": f"l{n}"}, queue="exports").or_else(0.0) for n in range(140)]
        video = [flow.call("shop.media.hold", {"name": f"v{n}"}, queue="media") for n in range(6)]
        value = flow.call("shop.reports.total", {"prices": sure + late}, tags=["value"])
        risk = [flow.call("shop.reports.write_summary", {"parts": [value, total]}) for _ in range(8)]
        report = flow.call("shop.reports.write_summary", {"parts": [*risk, value]}, tags=["report"])
        _ = flow.call("shop.mail.send_email", {"to": report, "subject": video})
    eventually(lambda: client.count(f"workflow:{flow.id} state:completed") >= 640, 120)
    return flow.id
