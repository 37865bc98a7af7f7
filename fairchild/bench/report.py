"""A run as a table, as JSON, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairchild.bench.figures import Measurement, ratio, ratios
from fairchild.bench.run import Run

NOISY = 0.1
COLUMNS = ("measure", "", "median", "unit", "spread", "ratio", "to", "noise")


def as_json(run: Run) -> dict[str, Any]:
    """Everything that is known of a run."""
    return {
        "at": run.at.isoformat(),
        "seconds": round(run.seconds, 1),
        "rounds": run.plan.rounds,
        "versions": {**run.versions, "postgresql": run.server["postgresql"]},
        "server": run.server,
        "machine": run.machine,
        "notes": run.notes,
        "measurements": [_measurement(run, each) for each in run.measurements],
    }


def _measurement(run: Run, each: Measurement) -> dict[str, Any]:
    other = _against(run, each)
    return {
        "name": each.measure.name,
        "title": each.measure.title,
        "unit": each.measure.unit,
        "better": each.measure.better,
        "median": each.median,
        "samples": [each.samples.get(number) for number in _rounds(run)],
        "noise": [each.noise.get(number) for number in _rounds(run)],
        "missing": each.missing,
        "against": each.measure.against,
        "ratio": None if other is None else ratio(each, other),
        "ratios": None if other is None else [ratios(each, other).get(number) for number in _rounds(run)],
    }


def rows(run: Run) -> list[list[str]]:
    """The cells of the table under ``COLUMNS``."""
    return [_row(run, each) for each in run.measurements]


def summary(run: Run) -> list[str]:
    """What a reader of the table must know, one line each."""
    shared = run.server["settings"]
    described = run.machine
    lines = [
        f"fairchild {run.versions['fairchild']}, Python {run.versions['python']}, psycopg {run.versions['psycopg']}, "
        f"PostgreSQL {run.server['postgresql']} ("
        + ", ".join(f"{name} {value}" for name, value in shared.items())
        + ")",
        f"{described['cpu'] or 'unknown CPU'}, {described['cores']} cores, "
        + (f"{described['memory_mib'] / 1024:.0f} GiB, " if described["memory_mib"] else "")
        + f"{described['system']}; {run.at:%Y-%m-%d %H:%M} UTC, {run.plan.rounds} rounds in {run.seconds:.0f} s",
        "median: of the rounds; spread: from the least to the most",
        "ratio: the median over the rounds of this measure by the one named, taken in the same round",
        "noise: the most that others used of the machine meanwhile",
    ]
    lines.extend(f"note: {each}" for each in run.notes)
    return [*lines, *_missing(run)]


def _missing(run: Run) -> list[str]:
    """What was not measured, in one line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for each in run.measurements:
        if each.missing is not None:
            by_reason.setdefault(each.missing, []).append(each.measure.name)
    return [f"missing: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def markdown(run: Run) -> str:
    """A page with the table."""
    lines = [
        "# Benchmarks",
        "",
        *(f"{line}  " for line in summary(run)),
        "",
        *_table([*COLUMNS[:1], "what", *COLUMNS[2:]], rows(run)),
        "",
        "The absolute numbers belong to that machine; the ratios between rows of one run are the result.",
        "Made by `make bench ARGS=--markdown`; `fairchild bench` measures your own server.",
    ]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    numeric = {"median", "spread", "ratio", "noise"}
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if name in numeric else "---" for name in columns) + "|",
        *("| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in cells),
    ]


def _row(run: Run, each: Measurement) -> list[str]:
    other = _against(run, each)
    compared = None if other is None else ratio(each, other)
    values = list(each.samples.values())
    middle = each.median
    return [
        each.measure.name,
        each.measure.title,
        "-" if middle is None else shown(middle),
        each.measure.unit,
        f"{shown(min(values))} to {shown(max(values))}" if len(values) > 1 else "",
        "" if compared is None else f"{compared:.2f}",
        "" if compared is None or other is None else other.measure.name,
        "" if not each.noise else f"{max(each.noise.values()):.0%}",
    ]


def shown(value: float) -> str:
    """Three or four digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")


def _against(run: Run, each: Measurement) -> Measurement | None:
    return None if each.measure.against is None else run.find(each.measure.against)


def _rounds(run: Run) -> range:
    return range(1, run.plan.rounds + 1)
