"""The pages: a module each, on what ``site.py`` gives them all. They ask the client, as the API does."""

from __future__ import annotations

from flask import Blueprint

from fairchild.client import Fairchild
from fairchild.web.auth import Gate
from fairchild.web.pages import (
    enqueue,
    errors,
    job,
    jobs,
    overview,
    queues,
    stacks,
    system,
    tasks,
    teaching,
    workers,
    workflows,
)
from fairchild.web.pages.site import Site

_PAGES = (overview, jobs, job, workflows, queues, workers, stacks, tasks, enqueue, errors, system, teaching)


def add_to(blueprint: Blueprint, fc: Fairchild, gate: Gate) -> None:
    """Add all pages to the blueprint."""
    site = Site(blueprint, fc, gate)
    for each in _PAGES:
        each.add_to(site)
