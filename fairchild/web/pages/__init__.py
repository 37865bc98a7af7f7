"""The pages: a module each, on what ``site.py`` gives them all. They ask the client, as the API does."""

from __future__ import annotations

from flask import Blueprint

from fairchild.client import Fairchild
from fairchild.web.auth import Gate
from fairchild.web.operations import Api
from fairchild.web.pages import (
    conditions,
    enqueue,
    errors,
    job,
    jobs,
    many,
    overview,
    places,
    queues,
    reference,
    stacks,
    system,
    tasks,
    teaching,
    workers,
    workflows,
)
from fairchild.web.pages.site import Site

_PAGES = (
    overview, jobs, many, job, workflows, queues, workers, stacks, tasks, enqueue, errors, system, teaching, reference,
    places, conditions,
)  # fmt: skip


def add_to(blueprint: Blueprint, fc: Fairchild, gate: Gate, api: Api) -> None:
    """Add all pages to the blueprint; ``api`` is what they describe."""
    site = Site(blueprint, fc, gate, api)
    for each in _PAGES:
        each.add_to(site)
