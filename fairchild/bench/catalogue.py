"""The list of what is measured: each probe, the measures it gives samples of, and what each is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fairchild.bench import limits, paths
from fairchild.bench.arena import Arena
from fairchild.bench.draining import Drained
from fairchild.bench.figures import Measure, percentile
from fairchild.bench.plan import Plan
from fairchild.errors import UsageError

Samples = Mapping[str, "float | None"]
"""One sample for each measure that a probe could take; None for one that cannot be taken here."""

RATE = "jobs/s"


@dataclass(frozen=True)
class Probe:
    """Something that is run once in each round."""

    measures: tuple[Measure, ...]
    take: Callable[[Arena], Samples]


def probes(plan: Plan) -> list[Probe]:
    """All of them, in the order of a round. What is compared stands side by side, so that it meets the same minute."""
    return [*_enqueueing(plan), *_draining(plan), *_waiting(plan), *_resting(plan)]


def merged(own: Sequence[Probe], more: Sequence[Probe]) -> list[Probe]:
    """One list, with each of ``more`` right behind the probe that it is compared with."""
    found = list(own)
    for probe in reversed(more):
        names = {measure.against for measure in probe.measures}
        places = [at for at, each in enumerate(found) if any(measure.name in names for measure in each.measures)]
        found.insert(places[-1] + 1 if places else len(found), probe)
    return found


def select(available: Sequence[Probe], wanted: Iterable[str]) -> tuple[list[Probe], set[str]]:
    """The probes needed for the measures of these names, and the names of all measures to report.

    A name stands for itself and for all below it: ``drain`` is ``drain.default``, ``drain.two`` and so on. What a
    measure is compared with comes along. Nothing wanted is everything. Raises UsageError for a name that stands for
    nothing.
    """
    by_name = {measure.name: measure for probe in available for measure in probe.measures}
    asked = list(wanted)
    if not asked:
        return list(available), set(by_name)
    names: set[str] = set()
    for each in asked:
        found = {name for name in by_name if name == each or name.startswith(each + ".")}
        if not found:
            raise UsageError(f"nothing is measured under the name {each!r}; there is {', '.join(sorted(by_name))}")
        names |= found
    left = list(names)
    while left:
        against = by_name[left.pop()].against
        if against is not None and against in by_name and against not in names:
            names.add(against)
            left.append(against)
    return [probe for probe in available if any(measure.name in names for measure in probe.measures)], names


def _more(name: str, title: str, against: str | None = None, unit: str = RATE) -> Measure:
    return Measure(name, title, unit, "more", against)


def _less(name: str, title: str, unit: str, against: str | None = None) -> Measure:
    return Measure(name, title, unit, "less", against)


def _rate(measure: Measure, take: Callable[[Arena], float]) -> Probe:
    return Probe((measure,), lambda arena: {measure.name: take(arena)})


def _enqueueing(plan: Plan) -> list[Probe]:
    return [
        _rate(_more("limit.insert", "raw INSERT + COMMIT of a job's row"), limits.insert_rows),
        _rate(_more("enqueue.one", "enqueue one at a time", "limit.insert"), paths.enqueue_one),
        _rate(_more("limit.copy", f"raw COPY of {plan.bulk:,} rows built in Python"), limits.copy_rows),
        _rate(_more("enqueue.bulk", f"enqueue_many of {plan.bulk:,}", "limit.copy"), paths.enqueue_bulk),
        _rate(_more("limit.executemany", f"raw executemany of {plan.bulk:,}, one transaction"), limits.execute_many),
        _rate(
            _more("enqueue.caller", f"enqueue_many of {plan.bulk:,}, the caller's transaction", "limit.executemany"),
            paths.enqueue_in_transaction,
        ),
    ]


def _draining(plan: Plan) -> list[Probe]:
    def slow(arena: Arena) -> Samples:
        both = paths.drain_with_slow_commit(arena)
        return {"drain.fast-commit": both.normal.rate, "drain.slow-commit": both.slow.rate}

    def held(arena: Arena) -> Samples:
        both = paths.drain_under_snapshot(arena)
        return {
            "drain.long": both.free.rate,
            "drain.snapshot": both.held.rate,
            "drain.snapshot.first": both.held.first_fifth,
            "drain.snapshot.last": both.held.last_fifth,
        }

    return [
        _rate(_more("limit.store", "the store's claim and finish in a loop, no Python jobs"), limits.store_loop),
        _drain("limit.ideal", "minimal threaded worker", "limit", limits.ideal_drain),
        _drain(
            "drain.default", f"drain of {plan.drain:,}, one worker as it is", "", paths.drain_default, "limit.ideal"
        ),
        _rate(
            _more("drain.tuned", f"the same with concurrency {plan.tuned_concurrency}", "limit.ideal"),
            lambda arena: paths.drain_tuned(arena).rate,
        ),
        _rate(
            _more("drain.two", "the same with two worker processes", "drain.default"),
            lambda arena: paths.drain_two(arena).rate,
        ),
        Probe(
            (
                _more("drain.fast-commit", f"drain of {plan.slow_drain:,}, one worker as it is"),
                _more("drain.slow-commit", "the same, each commit 2 ms slower", "drain.fast-commit"),
            ),
            slow,
        ),
        _rate(
            _more("drain.ended", f"drain of {plan.drain:,} among {plan.ended:,} ended jobs", "drain.default"),
            lambda arena: paths.drain_among_ended(arena).rate,
        ),
        Probe(
            (
                _more("drain.long", f"drain of {plan.long:,}, one worker as it is"),
                _more("drain.snapshot", "the same under an old snapshot", "drain.long"),
                _more("drain.snapshot.first", "... its first fifth"),
                _more("drain.snapshot.last", "... its last fifth", "drain.snapshot.first"),
            ),
            held,
        ),
    ]


def _drain(name: str, title: str, family: str, take: Callable[[Arena], Drained], against: str | None = None) -> Probe:
    cpu = "limit.cpu" if family else "cpu"
    other = None if family else "limit.cpu"

    def samples(arena: Arena) -> Samples:
        drained = take(arena)
        return {name: drained.rate, f"{cpu}.worker": drained.worker_us, f"{cpu}.server": drained.server_us}

    what = "of the minimal worker" if family else "of the worker"
    return Probe(
        (
            _more(name, title, against),
            _less(f"{cpu}.worker", f"CPU {what}, for each job", "µs", None if other is None else f"{other}.worker"),
            _less(
                f"{cpu}.server",
                "CPU of the server, for each job" + (" of the minimal worker" if family else ""),
                "µs",
                None if other is None else f"{other}.server",
            ),
        ),
        samples,
    )


def _waiting(plan: Plan) -> list[Probe]:
    def delays(arena: Arena) -> Samples:
        found = paths.start_delays(arena)
        return {
            **_percentiles("limit.start", found.raw),
            **_percentiles("latency", found.notified),
            **_percentiles("latency.poll", found.polled),
        }

    def fanned(arena: Arena) -> Samples:
        found = paths.fan_out(arena)
        return {"fan": found.narrow, "fan.wide": found.wide}

    return [
        _percentile_probe("limit.notify", "NOTIFY to LISTEN", None, limits.notifications),
        Probe(
            (
                *_percentile_measures("limit.start", "raw INSERT + NOTIFY, wake, claim, start", None),
                *_percentile_measures("latency", "enqueue to start, idle worker", "limit.start"),
                *_percentile_measures("latency.poll", "the same without notifications", None),
            ),
            delays,
        ),
        Probe(
            (
                _less("fan", f"fan out to {plan.fan:,} and in", "s"),
                _less("fan.wide", f"fan out to {plan.wide:,} and in", "s", "fan"),
            ),
            fanned,
        ),
        Probe(
            (_less("fan.ended", f"fan out to {plan.fan:,} among {plan.ended:,} ended jobs", "s", "fan"),),
            lambda arena: {"fan.ended": paths.fan_out_among_ended(arena)},
        ),
    ]


def _resting(plan: Plan) -> list[Probe]:
    def memory(arena: Arena) -> Samples:
        found = paths.worker_memory(arena)
        return {
            "memory.idle": found.idle,
            "memory.peak": found.drained,
            "memory.early": found.early,
            "memory.late": found.late,
        }

    def written(arena: Arena) -> Samples:
        found = paths.written(arena)
        return {
            "wal.enqueue": found.enqueue,
            "wal.run": found.run,
            "wal.job": found.enqueue + found.run,
            "statements.job": found.statements,
        }

    def idle(arena: Arena) -> Samples:
        found = paths.idle_worker(arena)
        return {
            "idle.worker": None if found.worker is None else found.worker * 100,
            "idle.server": None if found.server is None else found.server * 100,
            "idle.statements": found.statements,
        }

    return [
        Probe(
            (
                _less("memory.idle", "memory of an idle worker", "MiB"),
                _less("memory.peak", f"the most until {plan.memory // 10:,} jobs have run", "MiB"),
                _less("memory.early", f"after {plan.memory // 10:,} jobs", "MiB"),
                _less("memory.late", f"after {plan.memory:,} jobs", "MiB", "memory.early"),
            ),
            memory,
        ),
        Probe(
            (
                _less("wal.enqueue", "write-ahead log of a bulk enqueue, for each job", "bytes"),
                _less("wal.run", "write-ahead log of claim and finish, for each job", "bytes"),
                _less("wal.job", "both", "bytes"),
                _less("statements.job", "statements of claim and finish, for each job", ""),
            ),
            written,
        ),
        Probe(
            (
                _less("idle.worker", "CPU of an idle worker", "%"),
                _less("idle.server", "CPU of the server meanwhile", "%"),
                _less("idle.statements", "its transactions", "1/s"),
            ),
            idle,
        ),
    ]


PERCENTILES = (50, 95, 99)


def _percentiles(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    return {f"{name}.p{each}": percentile(seconds, each / 100) * 1000 if seconds else None for each in PERCENTILES}


def _percentile_measures(name: str, title: str, against: str | None) -> list[Measure]:
    return [
        _less(f"{name}.p{each}", f"{title}, p{each}", "ms", None if against is None else f"{against}.p{each}")
        for each in PERCENTILES
    ]


def _percentile_probe(name: str, title: str, against: str | None, take: Callable[[Arena], list[float]]) -> Probe:
    return Probe(tuple(_percentile_measures(name, title, against)), lambda arena: {**_percentiles(name, take(arena))})
