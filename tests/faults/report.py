"""What a section has found: its figures, and the promises that they are held against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- faults: what follows is written by make faults -->", "<!-- faults: end -->"


@dataclass
class Promise:
    """Something that must hold. ``timed``: it says how long something may take, which a busy machine may break."""

    text: str
    held: bool
    timed: bool = False


@dataclass
class Report:
    """``details``: of what broke a promise, enough to look for the cause."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    skipped: str | None = None

    def figure(self, name: str, value: object) -> None:
        self.figures.append((name, f"{value:,}" if isinstance(value, int) else str(value)))

    def promise(self, text: str, held: bool, *, timed: bool = False) -> None:
        self.promises.append(Promise(text, held, timed))

    @property
    def broken(self) -> list[Promise]:
        return [each for each in self.promises if not each.held]

    @property
    def wrong(self) -> list[Promise]:
        """Broken promises that do not depend on how busy the machine is."""
        return [each for each in self.broken if not each.timed]

    @property
    def verdict(self) -> str:
        if self.skipped is not None:
            return f"skipped: {self.skipped}"
        if self.broken:
            return "BROKEN: " + "; ".join(each.text for each in self.broken)
        return "held: " + "; ".join(each.text for each in self.promises)

    def lines(self) -> list[str]:
        return [*(f"  {name}: {value}" for name, value in self.figures), f"  {self.verdict}", *self.details[:20]]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of ``values`` does not exceed; infinity of none."""
    if not values:
        return float("inf")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


def seconds(values: Sequence[float]) -> str:
    """How long it took, in one line."""
    if not values:
        return "nothing was measured"
    parts = [f"{name} {percentile(values, share):.2f}" for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1.0))]
    return f"{', '.join(parts)} s of {len(values):,}"


def write_block(page: Path, name: str, text: str) -> None:
    """Put ``text`` in place of what the page's generated block says of ``name``, or at its end."""
    before, _, rest = page.read_text().partition(BEGIN)
    block, _, after = rest.partition(END)
    if not after:
        raise ValueError(
            f"{page} has no generated block: it must hold the lines {BEGIN!r} and {END!r}; it is as it was"
        )
    mine = f"<!-- {name} -->\n{text}\n<!-- /{name} -->\n"
    old = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->\n", re.DOTALL)
    block = old.sub(lambda _: mine, block) if old.search(block) else block.rstrip("\n") + "\n" + mine
    page.write_text(before + BEGIN + block + END + after)
