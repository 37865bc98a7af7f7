"""``/metrics``: what Prometheus collects, read from counters and never from jobs. No label names a job or a tenant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from flask import Response

from fairchild import __version__
from fairchild.client import Fairchild
from fairchild.rules.histogram import upper_bound
from fairchild.web.auth import VIEW
from fairchild.web.operations import Api
from fairchild.web.problems import Problem
from fairchild.web.shapes import TEXT

if TYPE_CHECKING:
    from prometheus_client.core import Metric

OUTCOMES = ("completed", "failed", "cancelled")


def add_to(api: Api) -> None:
    """Add the path. Without the extra ``prometheus`` it answers 501."""

    @api.add("GET", "/metrics", VIEW, refusals=(501,), media="text/plain", answer=TEXT)
    def metrics() -> Any:
        """Counts, ages, totals and histograms, for Prometheus."""
        if find_spec("prometheus_client") is None:
            raise Problem(501, "metrics need an extra: pip install 'fairchild[prometheus]'")
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest  # noqa: PLC0415 - an extra

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(api.fc))
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Collector:
    def __init__(self, fc: Fairchild) -> None:
        self._fc = fc

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that the database is not asked when it is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All metrics, as they are now."""
        yield from _of_queues(self._fc.queues.list())
        yield from _of_tasks(self._fc.totals())
        yield from _of_workers(self._fc.worker_sessions())
        yield _gauge("fairchild_build_info", "The release that answers.", ["version"], [([__version__], 1)])


def _of_queues(queues: Sequence[dict[str, Any]]) -> Iterable[Metric]:
    counts = [([each["name"], state], n) for each in queues for state, n in each["counts"].items()]
    yield _gauge("fairchild_jobs", "Jobs there are.", ["queue", "state"], counts)
    yield _gauge(
        "fairchild_queue_oldest_available_seconds", "For how long the job that has been available longest is so.",
        ["queue"], [([each["name"]], each["oldest_seconds"] or 0.0) for each in queues],
    )  # fmt: skip
    yield _gauge(
        "fairchild_queue_workers", "Workers that take from the queue.", ["queue"],
        [([each["name"]], each["workers"]) for each in queues],
    )  # fmt: skip
    yield _gauge(
        "fairchild_queue_paused", "1 while nobody may take from the queue.", ["queue"],
        [([each["name"]], int(each["paused"])) for each in queues],
    )  # fmt: skip


def _of_tasks(totals: Sequence[dict[str, Any]]) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily  # noqa: PLC0415 - an extra

    labels = ["queue", "task"]
    inserted = CounterMetricFamily("fairchild_jobs_inserted", "Jobs enqueued, a minute or two late.", labels=labels)
    finished = CounterMetricFamily("fairchild_jobs_finished", "Ends of jobs.", labels=[*labels, "outcome"])
    wait = HistogramMetricFamily("fairchild_job_wait_seconds", "From available to claimed.", labels=labels)
    run = HistogramMetricFamily("fairchild_job_run_seconds", "How long attempts ran.", labels=labels)
    for each in totals:
        own = [each["queue"], each["task"]]
        inserted.add_metric(own, each["inserted"])
        for outcome in OUTCOMES:
            finished.add_metric([*own, outcome], each[outcome])
        wait.add_metric(own, _buckets(each["wait"]["buckets"]), each["wait"]["seconds"])
        run.add_metric(own, _buckets(each["run"]["buckets"]), each["run"]["seconds"])
    return [inserted, finished, wait, run]


def _of_workers(workers: Sequence[dict[str, Any]]) -> Iterable[Metric]:
    living = [each for each in workers if each["state"] in ("running", "paused", "draining")]
    busy, all_ = sum(each["running"] for each in living), sum(each["concurrency"] for each in living)
    yield _gauge(
        "fairchild_worker_slots", "Threads of workers.", ["state"],
        [(["busy"], busy), (["free"], max(all_ - busy, 0))],
    )  # fmt: skip
    yield _gauge(
        "fairchild_worker_heartbeat_timestamp_seconds", "When it was last heard of, by the database's clock.",
        ["worker"], [([each["name"]], each["beat_at"].timestamp()) for each in living],
    )  # fmt: skip


def _gauge(name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

    family = GaugeMetricFamily(name, text, labels=labels)
    for own, value in values:
        family.add_metric(own, value)
    return family


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, under their upper bounds in seconds."""
    found, below = [], 0
    for number, count in enumerate(counts):
        below += count
        bound = upper_bound(number)
        found.append(("+Inf" if bound is None else repr(float(bound)), float(below)))
    return found
