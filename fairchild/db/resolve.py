"""What to do when the reply to an enqueue was lost: never guess.

Ids are made by the client, so an insert is repeated until a reply comes: a job that was made by the first try is found
and not made twice. A bulk insert cannot be repeated, its rows may have been generated; it is all or nothing, so one of
its ids tells what came of it. Only when the database stays away for too long is the caller told that nobody knows.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from fairchild.db.connect import STORE_ERRORS, Link, is_reply_lost, is_transient
from fairchild.db.statement import Sql
from fairchild.errors import OutcomeUnknown

T = TypeVar("T")

UNSENT_SECONDS = 3.0
"""How long to try where nothing can have been done yet: the caller waits, and can be told the truth."""
FIRST_PAUSE = 0.05
LAST_PAUSE = 5.0

# Waits for a transaction that is about to insert this very id, and learns what came of it. Rolled back at once.
PROBE = Sql(
    "probe_job",
    """
INSERT INTO {jobs} (id, task, workflow_id, args) VALUES (%(id)s, '', %(id)s, '{{}}')
ON CONFLICT (id) DO NOTHING RETURNING id""",
)


def until_known(step: Callable[[bool], T], ids: Sequence[UUID], patience: float, *, lost: bool = False) -> T:
    """Run ``step``, which may be repeated, until it succeeds or is refused.

    It is told whether an earlier try may have been done already. ``lost``: such a try was made before. Raises what the
    last try raised; OutcomeUnknown instead if a reply was lost and ``patience`` seconds were not enough to get another.
    """
    began = time.monotonic()
    pause = FIRST_PAUSE
    while True:
        try:
            return step(lost)
        except STORE_ERRORS as error:
            lost = lost or is_reply_lost(error)
            over = time.monotonic() - began >= (patience if lost else min(UNSENT_SECONDS, patience))
            if over or not is_transient(error):
                if lost:
                    raise OutcomeUnknown(ids, error) from error
                raise
        time.sleep(random.uniform(0, pause))
        pause = min(pause * 2, LAST_PAUSE)


def was_inserted(link: Link, job_id: UUID) -> bool:
    """Whether a job is there, once nobody is about to commit or roll back its insertion any more."""
    with link.connection.transaction(force_rollback=True):
        return not link.rows(PROBE, {"id": job_id})
