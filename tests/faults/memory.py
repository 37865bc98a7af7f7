"""One worker process and very many jobs, of which one in ten fails: what it holds must not grow."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from fairchild import Fairchild
from tests.faults import jobs
from tests.faults.cluster import Cluster, cluster
from tests.faults.crew import Crew, Member
from tests.faults.report import Report

JOBS = 1_000_000
WARM = 50_000
"""Jobs after which it has all that it needs."""
GROWTH_MB = 5.0
PATIENCE = 120.0
MEGABYTE = 1024 * 1024


def run(size: float, rng: random.Random) -> Report:
    """The section."""
    report = Report()
    warm = min(WARM, int(size) // 4)
    samples: list[tuple[int, float, int, int, int]] = []
    with cluster() as server, Fairchild(server.url) as client, Crew(server.url) as crew:
        client.enqueue_many(jobs.noop, ({"n": n} for n in range(int(size))))
        client.disconnect()
        member = crew.start()
        ended, moved = 0, time.monotonic()
        while ended < size:
            before, ended = ended, _ended(server)
            if ended > before:
                moved = time.monotonic()
            elif time.monotonic() - moved > PATIENCE:
                raise TimeoutError(f"{ended} of {size:.0f} jobs have ended and none did of late: {member.said()}")
            if ended >= warm:
                samples.append((ended, *_sample(server, member)))
            time.sleep(0.5)
        failed = server.value("SELECT count(*) FROM fairchild_jobs_base WHERE state = 'failed'")
    memory, threads, files, connections = zip(*(each[1:] for each in samples), strict=True)
    growth = max(memory) - memory[0]
    report.figure("jobs", f"{int(size):,}, of which {failed:,} failed")
    report.figure(
        "resident memory", f"{memory[0]:.1f} MB after {samples[0][0]:,} jobs, then at most {max(memory):.1f} MB"
    )
    for name, values in (("threads", threads), ("file descriptors", files), ("connections", connections)):
        report.figure(name, f"{min(values)} to {max(values)}, {values[0]} at first, {values[-1]} in the end")
        # The last look may meet one that is open for a moment: what counts is that none is kept.
        report.promise(f"{name} constant", values[-1] <= values[0] and max(values) - min(values) <= 1)
    report.promise(f"memory grew at most {GROWTH_MB:g} MB", growth <= GROWTH_MB)
    report.promise("one in ten failed", failed == -(-int(size) // 10))
    return report


def _ended(server: Cluster) -> int:
    return int(server.value("SELECT coalesce(sum(n), 0) FROM fairchild_counters"))


def _sample(server: Cluster, member: Member) -> tuple[float, int, int, int]:
    process = Path("/proc") / str(member.pid)
    held = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    connections = server.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'fairchild:%'")
    return held / MEGABYTE, len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())), connections
