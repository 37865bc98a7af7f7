"""A task's own transaction: what it writes commits together with the record of its completion, or not at all.

The transaction is open from the task's first ``job.transaction()`` until the task has ended and its outcome is known.
Then the outcome is recorded in it, by the same statement and under the same fence as all others, and it is committed:
an attempt whose claim is gone takes its writes along.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

import psycopg

from fairchild import failpoints
from fairchild.db.connect import Database, is_reply_lost
from fairchild.db.finish import Applied, Ended, finish, look_again, was_recorded
from fairchild.errors import StoreError

IDLE_SECONDS = 600
"""After so long without a statement the server ends the transaction, so that it holds no lock for ever."""


class CommitUnknown(StoreError):
    """The connection was lost while the transaction was being committed; ``Unit.resolve`` tells what came of it."""


class Unit:
    """One open transaction on a connection of the client's pool. Raises StoreError where the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open = ExitStack()
        try:
            self._link = self._open.enter_context(database.link())
            self._open.enter_context(self._link.connection.transaction())
            self._link.script(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
        except BaseException:
            self._open.__exit__(*sys.exc_info())  # raises it as the others do
            raise

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection, for the task's statements. It refuses ``commit()``, which is not the task's to call."""
        return self._link.connection

    def part(self) -> AbstractContextManager[Any]:
        """A savepoint: a block that raises leaves nothing of itself behind, and all before it as it was."""
        return self._link.connection.transaction()

    def cancel(self) -> None:
        """Have the server break off the statement that runs, if any. From any thread."""
        self._link.connection.cancel_safe(timeout=5.0)

    def rollback(self) -> None:
        """End it without a trace."""
        with suppress(psycopg.Error, StoreError):  # a connection that is gone has taken the transaction along
            self._open.__exit__(psycopg.Rollback, psycopg.Rollback(), None)

    def commit(self) -> None:
        """Commit it. Raises CommitUnknown if the connection was lost on the way, else what the database refuses."""
        try:
            self._open.close()
        except (psycopg.Error, StoreError) as error:
            if is_reply_lost(error):
                raise CommitUnknown(str(error)) from error
            raise (error.__cause__ or error) from None  # as the driver says it: the statements were the task's

    def complete(self, ended: Ended) -> Applied:
        """Record an outcome and commit. Nothing is kept, and the answer says so, if its claim was lost or stopped."""
        try:
            applied = finish(self._link, [ended], census=self._database.census)
        except BaseException:
            self.rollback()
            raise
        if applied.lost or applied.stopped:
            self.rollback()
        else:
            if failpoints.ARMED:
                failpoints.hit("transaction.before_commit")
            self.commit()
            if failpoints.ARMED:
                failpoints.hit("transaction.after_commit")
            if ended.is_unsure:
                with suppress(StoreError), self._database.link() as link:  # what this misses, the workers' sweeps find
                    look_again(link, [ended])
        return applied

    def resolve(self, ended: Ended) -> bool:
        """Whether the commit that nobody heard of was done. Raises StoreError while the database cannot be asked."""
        with self._database.link() as link:
            return was_recorded(link, ended.job_id, ended.claim_id)
