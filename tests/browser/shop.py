"""A shop's jobs: some in every state, the same each time."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID

from fairchild import Fairchild, Record
from tests.support.eventually import eventually

SLOW = threading.Event()
"""Set when the slow task may end."""
HELD = threading.Event()
"""Set when a held task may end."""
EVIL = "\"'><script>window.hit=1</script><img src=x onerror=window.hit=1><svg onload=window.hit=1>"


def register(client: Fairchild) -> None:
    """The tasks. What fails, fails by its arguments."""

    @client.task(name="shop.mail.send_email", tags=["email"])
    def send_email(to: str, subject: str, copies: int = 1, urgent: bool = False) -> None:
        """Send one mail."""

    @client.task(name="shop.billing.charge", queue="money", max_attempts=1)
    def charge(account: int, amount: float, card: dict[str, str]) -> dict[str, float]:
        """Charge a card."""
        if account % 4 == 0:
            raise TimeoutError("the payment gateway did not answer within 5 seconds")
        return {"charged": amount}

    @client.task(name="shop.billing.refund", queue="money", max_attempts=5, backoff=[3600])
    def refund(account: int) -> None:
        raise ConnectionError(f"connection refused by bank{account}.example.com")

    @client.task(name="shop.media.transcode", queue="media", timeout=600)
    def transcode(path: str) -> None:
        SLOW.wait(600)

    @client.task(name="shop.media.hold", queue="media")
    def hold(name: str) -> str:
        HELD.wait(600)
        return f"held {name}"

    @client.task(name="shop.reports.fetch_price", max_attempts=1)
    def fetch_price(symbol: str) -> float:
        if symbol == "tech3":
            raise ValueError(f"no price for {symbol}")
        time.sleep(0.001)
        return 1.0

    @client.task(name="shop.reports.load_users")
    def load_users() -> int:
        return 3

    @client.task(name="shop.reports.total")
    def total(prices: list[float], users: int = 0) -> float:
        return sum(prices)

    @client.task(name="shop.reports.sector")
    def sector(name: str, size: int) -> Any:
        return Record(total([fetch_price(f"{name}{n}") for n in range(size)]))

    @client.task(name="shop.reports.write_summary")
    def write_summary(parts: list[float]) -> float:
        return sum(parts)

    @client.task(name="shop.reports.nightly", on_child_failure="ignore")
    def nightly(size: int) -> Any:
        users = load_users()
        prices = [fetch_price(f"fx{n}") for n in range(size)]
        sectors = [sector(name, size) for name in ("energy", "health", "retail")]
        return Record(write_summary([total(prices, users), *sectors]))

    @client.task(name=f"evil{EVIL}", max_attempts=1)
    def evil(x: str) -> None:
        raise ValueError(EVIL)


def fill(client: Fairchild, *, evil: bool = True) -> dict[str, UUID | str]:
    """Make the jobs and wait until they are where they belong; the ids of some by name, of a worker and of an error."""
    mails = [{"to": f"user{n}@example.com", "subject": "Your invoice", "copies": n % 3} for n in range(150)]
    client.enqueue_many("shop.mail.send_email", mails, tenant="acme")
    card = {"brand": "visa", "last4": "4242"}
    charges = client.enqueue_many(
        "shop.billing.charge", [{"account": n, "amount": n * 1.5, "card": card} for n in range(24)], tags=["money"]
    )
    retrying = client.enqueue("shop.billing.refund", {"account": 7})
    running = client.enqueue("shop.media.transcode", {"path": "/v/1.mp4"})
    flow = client.enqueue("shop.reports.nightly", {"size": 12})
    broken = client.enqueue("shop.reports.sector", {"name": "tech", "size": 6})
    odd = flow
    if evil:
        odd = client.enqueue(f"evil{EVIL}", {"x": EVIL}, tags=[EVIL], tenant=EVIL, meta={EVIL: EVIL})
    client.wait([*charges, flow, broken, odd], timeout=60)
    eventually(lambda: client.count("state:retrying") == 1, 30)
    eventually(lambda: client.count("state:running") == 1, 30)
    client.enqueue_many("shop.exports.export_csv", [{"table": f"t{n}"} for n in range(128)], queue="exports")
    scheduled = client.enqueue("shop.mail.send_email", {"to": "x@y.example", "subject": "Later"}, delay=7200)
    cancelled = client.enqueue("shop.mail.send_email", {"to": "x@y.example", "subject": "Never"}, delay=60)
    client.cancel(cancelled, "not needed")
    waiting = client.enqueue("shop.reports.total", {"prices": []}, depends_on=[scheduled])
    (web,) = client.workers.list()
    fingerprint = next(each.fingerprint for each in client.insight.errors() if each.task == "shop.billing.charge")
    return {
        "worker": web.id, "error": fingerprint, "failed": charges[0],
        "done": charges[1], "retrying": retrying.id, "running": running.id, "flow": flow.id,
        "broken": broken.id, "evil": odd.id, "scheduled": scheduled.id, "waiting": waiting.id,
    }  # fmt: skip
