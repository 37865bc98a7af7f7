"""A review of a portfolio: one job for each position, one sub-workflow for each sector, one summary of all.

    review_portfolio
      review_sector("Energy")         x 11
        value_position({...})         x 20 or so
        total_sector([positions])     waits for those of its sector
      summarise([sector totals])      waits for all sectors

Calling a task inside a task makes a job and gives a Future; passing Futures on makes the edges. Nothing else does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from importlib.resources import files
from typing import Any, TypedDict, cast

from fairchild.record import Record
from fairchild.tasks import task

QUEUE = "fairchild-demo"
MAX_SYMBOLS = 50_000
_CENT = Decimal("0.01")


class Position(TypedDict):
    """One line of the CSV, as text."""

    symbol: str
    name: str
    sector: str
    shares: str
    price: str
    previous_close: str


class Valued(TypedDict):
    """What a position is worth. Amounts are text, so that no cent is lost on the way."""

    symbol: str
    value: str
    previous: str
    change_percent: float


class SectorTotal(TypedDict):
    """What the positions of a sector are worth together."""

    sector: str
    positions: int
    value: str
    previous: str
    change_percent: float
    best: Valued
    worst: Valued


@task(queue=QUEUE, tags=["demo"])
def review_portfolio(symbols: int) -> Record[Any]:
    """Read the positions and have each sector reviewed."""
    by_sector: dict[str, list[Position]] = {}
    for position in read_positions(symbols):
        by_sector.setdefault(position["sector"], []).append(position)
    totals = [review_sector(sector, positions) for sector, positions in sorted(by_sector.items())]
    return Record(summarise(totals))


@task(queue=QUEUE, tags=["demo"])
def review_sector(sector: str, positions: list[Position]) -> Record[SectorTotal]:
    """Have each position valued, then all of the sector added up."""
    return Record(total_sector(sector, [value_position(position) for position in positions]))


@task(queue=QUEUE, tags=["demo"])
def value_position(position: Position) -> Record[Valued]:
    """Number of shares times price, now and at the previous close."""
    shares = int(position["shares"])
    value = (shares * Decimal(position["price"])).quantize(_CENT, ROUND_HALF_EVEN)
    previous = (shares * Decimal(position["previous_close"])).quantize(_CENT, ROUND_HALF_EVEN)
    return Record(
        Valued(
            symbol=position["symbol"],
            value=str(value),
            previous=str(previous),
            change_percent=_percent(value, previous),
        )
    )


@task(queue=QUEUE, tags=["demo"])
def total_sector(sector: str, positions: list[Valued]) -> Record[SectorTotal]:
    """Sum of the positions, the best and the worst of them."""
    value = sum((Decimal(each["value"]) for each in positions), Decimal(0))
    previous = sum((Decimal(each["previous"]) for each in positions), Decimal(0))
    ranked = sorted(positions, key=lambda each: (each["change_percent"], each["symbol"]))
    return Record(
        SectorTotal(
            sector=sector,
            positions=len(positions),
            value=str(value),
            previous=str(previous),
            change_percent=_percent(value, previous),
            best=ranked[-1],
            worst=ranked[0],
        )
    )


@task(queue=QUEUE, tags=["demo"])
def summarise(totals: list[SectorTotal]) -> Record[dict[str, Any]]:
    """Sum of the sectors, the largest of them first."""
    value = sum((Decimal(each["value"]) for each in totals), Decimal(0))
    previous = sum((Decimal(each["previous"]) for each in totals), Decimal(0))
    return Record(
        {
            "positions": sum(each["positions"] for each in totals),
            "value": str(value),
            "change": str(value - previous),
            "change_percent": _percent(value, previous),
            "sectors": sorted(totals, key=lambda each: Decimal(each["value"]), reverse=True),
        }
    )


def read_positions(count: int) -> Iterator[Position]:
    """The first ``count`` positions. Past the end of the file further lots of the same symbols follow: ``GNWD.2``."""
    if not 1 <= count <= MAX_SYMBOLS:
        raise ValueError(f"the number of symbols is from 1 to {MAX_SYMBOLS:,}, got {count}")
    text = files("fairchild.demo").joinpath("symbols.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    for number in range(count):
        lot, row = divmod(number, len(rows))
        position = cast("Position", dict(rows[row]))
        if lot:
            position["symbol"] += f".{lot + 1}"
        yield position


def _percent(now: Decimal, before: Decimal) -> float:
    return round(float((now - before) / before * 100), 2)
