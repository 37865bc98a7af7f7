"""``make faults``: what is promised, tried; exit 1 if a promise is broken.

Sections are named by the words given, all of them by none. ``--size NAME=NUMBER`` has one run in another size,
``--quick`` all of them in a small one. ``--markdown`` writes what was found into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import logging
import platform
import random
import sys
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path

import fairchild
from tests.faults.cluster import Cluster
from tests.faults.report import Report, write_block
from tests.faults.sections import SECTIONS, Section

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def main() -> int:
    """Read the command line, run the sections, print what each has found."""
    parser = argparse.ArgumentParser(
        prog="make faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = "\n".join(f"{each.name}: {each.title} ({each.full:g} {each.unit})" for each in SECTIONS.values())
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=names)
    parser.add_argument("--quick", action="store_true", help="every section in a small size, five minutes at most")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=NUMBER", help="another size of a section")
    parser.add_argument("--seed", type=int, help="by default another one each time")
    parser.add_argument("--markdown", nargs="?", const=PAGE, type=Path, metavar="FILE", help=f"default: {PAGE.name}")
    given = parser.parse_args()
    sizes = {}
    for each in given.size:
        name, _, number = each.partition("=")
        if name not in SECTIONS or not number.replace(".", "", 1).isdigit():
            parser.error(f"--size takes SECTION=NUMBER, and {each!r} is none")
        sizes[name] = float(number)
    if unknown := [each for each in given.sections if each not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    logging.disable(logging.CRITICAL)  # thousands of warnings are what is wanted here
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}; {versions()}", flush=True)
    good = True
    for name in given.sections or SECTIONS:
        section = SECTIONS[name]
        size = sizes.get(name, section.quick if given.quick else section.full)
        report = attempted(section, size, seed)
        good = good and not report.broken
        if given.markdown is not None:
            write_block(given.markdown, name, page_of(section, size, seed, report))
    return 0 if good else 1


def attempted(section: Section, size: float, seed: int) -> Report:
    """Run a section and print its report; one that breaks off has kept nothing."""
    print(f"\n{section.name}: {section.title}, {size:,g} {section.unit}", flush=True)
    started = time.monotonic()
    try:
        report = section.run(size, random.Random(f"{seed} {section.name}"))
    except Exception as error:  # noqa: BLE001 - the other sections are still to be seen
        report = Report(details=traceback.format_exc().splitlines())
        report.promise(f"it did not come to its end: {type(error).__name__}", held=False)
    report.figure("took", f"{time.monotonic() - started:.0f} s")
    print(*report.lines(), sep="\n", flush=True)
    return report


def page_of(section: Section, size: float, seed: int, report: Report) -> str:
    """A section of the page: what was done, when, and what came of it."""
    small = "" if size >= section.full else f" (the full size is {section.full:,g})"
    command = f'make faults ARGS="{section.name} --size {section.name}={size:g} --seed {seed}"'
    return "\n".join(
        [
            f"### {section.title}",
            "",
            f"{size:,g} {section.unit}{small}; {datetime.now(timezone.utc):%Y-%m-%d}, {versions()}; `{command}`",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in report.figures),
            "",
            f"{report.verdict[0].upper()}{report.verdict[1:]}.",
            "",
        ]
    )


def versions() -> str:
    """What this is a run of."""
    with Cluster() as server:
        number = str(server.value("SHOW server_version")).split()[0]
    return f"fairchild {fairchild.__version__}, PostgreSQL {number}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
