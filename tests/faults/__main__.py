"""``python -m tests.faults``: a storm, and what came of it. Exit 1 if anything was lost or done twice."""

from __future__ import annotations

import argparse
import random
import sys
import time

from fairchild.embedded import TemporaryServer
from tests.faults.storm import Storm


def main() -> int:
    """Read the command line, let the storm pass, print the verdict."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long things go wrong")
    parser.add_argument("--jobs", type=int, help="how many jobs; by default 6,000 for each minute")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    number = given.jobs if given.jobs is not None else max(100, int(6000 * given.minutes))
    print(f"seed {seed}: {given.minutes:g} minutes, {number:,} jobs, {given.workers} workers", flush=True)
    started = time.monotonic()
    with TemporaryServer() as server:
        storm = Storm(server.url, seed, given.minutes * 60, number, workers=given.workers)
        verdict = storm.run()
    for what, count in sorted(storm.done.items()):
        print(f"{count:6,} {what}")
    print(f"{verdict.jobs:6,} jobs in all, after {time.monotonic() - started:.0f} s")
    for name, found in verdict.violations.items():
        print(f"{len(found):6,} {name}")
    print(*verdict.histories, sep="\n")
    print("something is wrong" if verdict.violations else "0 lost, 0 accepted twice, one effect for each completed job")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
