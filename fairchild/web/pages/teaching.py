"""Pages of what is not in use yet: what it is for, in five lines of code."""

from __future__ import annotations

from typing import NamedTuple

from fairchild.web.pages.site import Shown, Site


class Lesson(NamedTuple):
    """What an empty page teaches."""

    page: str
    title: str
    about: str
    code: str


LESSONS = (
    Lesson(
        "schedules",
        "Schedules",
        "A schedule makes a job again and again: by a cron expression or an interval, in a time zone. "
        "Until schedules are kept in the database, let your system's timer enqueue the job:",
        "# crontab\n0 9 * * 1-5  fairchild enqueue myapp.tasks.report",
    ),
    Lesson(
        "limits",
        "Limits",
        "A limit says how many jobs may run at once. The concurrency of a worker is one, and a queue of its own, "
        "taken from by one worker, is another:",
        "fairchild worker --import myapp.tasks --queues default --concurrency 10\n"
        "fairchild worker --import myapp.tasks --queues api --concurrency 2",
    ),
    Lesson(
        "tenants",
        "Tenants",
        "A tenant says whose job it is. It is kept with the job, and the list of jobs can be filtered by it:",
        'send_report.enqueue(account=7, _tenant="acme")\n\nfc.search("tenant:acme state:failed")',
    ),
)


def add_to(site: Site) -> None:
    """Add a page for each lesson."""
    for lesson in LESSONS:
        _add(site, lesson)


def _add(site: Site, lesson: Lesson) -> None:
    def view() -> Shown:
        return Shown("teaching.html", {"lesson": lesson})

    view.__name__ = f"page_{lesson.page}"
    site.page(f"/{lesson.page}")(view)
