"""Where a run happens: a server, and throwaway schemas on it that are gone afterwards, however the run ended.

A schema's name says what it is, and the session that made it holds an advisory lock as long as it lives. So a run that
was killed is recognised by the next one, which drops what it left behind.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from fairchild.bench import ideal, machine, tasks
from fairchild.bench.plan import Plan
from fairchild.bench.processes import BenchError, Child
from fairchild.client import Fairchild
from fairchild.db.connect import Link, translate
from fairchild.db.statement import NAMES, Sql, quote

PREFIX = "fairchild_bench_"
_LOCK_WAIT = "SET lock_timeout = '30s'"
_FIND = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'fairchild\\_bench\\_%'"
_TRY_LOCK = "SELECT pg_try_advisory_lock(%(key)s)"
_UNLOCK = "SELECT pg_advisory_unlock(%(key)s)"

PENDING = Sql(
    "bench_pending",
    """
SELECT EXISTS (SELECT FROM {ready}) OR EXISTS (SELECT FROM {claims}) OR EXISTS (SELECT FROM {due})
    OR EXISTS (SELECT FROM {waiting})""",
)
FILL_ENDED = Sql(
    "bench_fill_ended",
    """
INSERT INTO {jobs} (id, task, workflow_id, args, inserted_at, scheduled_at)
SELECT id, 'bench.noop', id, jsonb_build_object('i', g, 'sent', 0.0), now() - interval '1 day', now() - interval '1 day'
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) g,
       LATERAL (SELECT (lpad(to_hex(1600000000000 + g), 12, '0') || '7' || substr(md5(g::text), 1, 3) || '8'
                        || substr(md5(g::text), 4, 15))::uuid AS id) made""",
)
# As a finish does: the rows grow in their pages, which leaves no gaps that a new row would just fit in.
END_FILLED = Sql(
    "bench_end_filled",
    """
UPDATE {jobs} SET state = 'completed', attempt = 1, result = 'null', claim_id = id, session = id,
                  attempted_at = now() - interval '1 day', ended_at = now() - interval '1 day'
 WHERE id >= (lpad(to_hex(1600000000000 + %(first)s::bigint), 12, '0') || repeat('0', 20))::uuid
   AND id < (lpad(to_hex(1600000000001 + %(last)s::bigint), 12, '0') || repeat('0', 20))::uuid""",
)
FILL_CHUNK = 50_000


class Tables:
    """Fairchild's tables in a throwaway schema, and what a measurement does with them."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.schema = PREFIX + uuid4().hex[:16]
        self.tasks = tasks.make(lambda _sent: None)
        self.client = Fairchild(arena.url, schema=self.schema, registry=self.tasks.registry)

    def make(self) -> None:
        """Make the schema with its tables. Raises StoreError if the role may not."""
        self.arena.lock(self.schema)
        self.client.install()
        for statement in ideal.CREATE.split(";"):
            self.arena.execute(ideal.text(statement, self.schema))
        self.link = Link(self.arena.connection, self.schema, prepare=False, owned=True)
        self.client.connect()

    def drop(self) -> None:
        """Take it all away."""
        self.client.disconnect()
        self.arena.drop(self.schema)

    def empty(self) -> None:
        """No job of any kind is left."""
        ours = ", ".join(self.name(each) for each in NAMES if each != "view")
        self.arena.execute(f"TRUNCATE {ours}, {quote(self.schema)}.{quote(ideal.TABLE)}".encode())

    def settle(self, *, vacuum: bool = False) -> None:
        """Statistics that are true, and no checkpoint due; so every measurement begins alike."""
        if vacuum:
            self.arena.execute(b"VACUUM ANALYZE " + self._hot())
        else:
            self.arena.execute(b"ANALYZE " + self._hot())
        self.arena.checkpoint()

    def _hot(self) -> bytes:
        return ", ".join(self.name(each) for each in ("jobs", "ready", "claims")).encode()

    def name(self, table: str) -> str:
        """The qualified name of a table."""
        return f"{quote(self.schema)}.{quote(NAMES[table])}"

    def enqueue(self, jobs: int) -> None:
        """Enqueue no-op jobs in bulk."""
        self.tasks.noop.options().stream(({"i": i} for i in range(jobs)), self.client)

    def pending(self) -> bool:
        """Whether any job has not ended."""
        return bool(self.link.rows(PENDING)[0][0])

    def fill_ended(self, rows: int) -> None:
        """Put rows of ended jobs into the tables."""
        for first in range(1, rows + 1, FILL_CHUNK):
            chunk = {"first": first, "last": min(rows, first + FILL_CHUNK - 1)}
            self.link.rows(FILL_ENDED, chunk)
            self.link.rows(END_FILLED, chunk)

    def worker(self, folder: Path, *, url: str | None = None, **options: Any) -> Child:
        """A worker in a process of its own; it begins when entered."""
        return Child(role="worker", url=url or self.arena.url, schema=self.schema, folder=str(folder), options=options)


class Arena:
    """A server under measurement. A context manager: whatever was made on it is gone at the end of the block."""

    def __init__(self, url: str, plan: Plan) -> None:
        self.url = url
        self.plan = plan
        self.postmaster: int | None = None
        """The server's process, if it is one of this machine that we may look at."""
        self.notes: list[str] = []
        """What could not be done as it should be."""
        self._stack = ExitStack()
        self._locks: dict[str, int] = {}
        self._ended: Tables | None = None

    def __enter__(self) -> Arena:
        try:
            self.connection: psycopg.Connection[Any] = psycopg.connect(
                self.url, autocommit=True, application_name="fairchild:bench"
            )
        except psycopg.Error as error:
            raise translate(error) from None
        self._stack.callback(self.connection.close)
        try:
            self.execute(_LOCK_WAIT.encode())
            self.postmaster = self._find_postmaster()
            self._sweep()
            self.plain = self.make_tables()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def make_tables(self) -> Tables:
        """Tables in another schema of their own."""
        tables = Tables(self)
        self._stack.callback(tables.drop)
        tables.make()
        return tables

    @property
    def ended(self) -> Tables:
        """Tables with the plan's rows of ended jobs; filled at the first use."""
        if self._ended is None:
            tables = self.make_tables()
            tables.fill_ended(self.plan.ended)
            tables.settle(vacuum=True)
            self._ended = tables
        return self._ended

    def execute(self, statement: bytes, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement on the run's own connection."""
        cursor = self.connection.cursor(row_factory=tuple_row)
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description is not None else []

    def connect(self) -> psycopg.Connection[Any]:
        """Another connection, as an application has it."""
        return psycopg.connect(self.url, autocommit=True)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for the counters of one measurement."""
        with tempfile.TemporaryDirectory(prefix="fairchild-bench-") as name:
            yield Path(name)

    def lock(self, schema: str) -> None:
        """Hold the lock that says that a schema is in use."""
        key = _key(schema)
        self.execute(_TRY_LOCK.encode(), {"key": key})
        self._locks[schema] = key

    def drop(self, schema: str) -> None:
        """Drop a schema and everything in it. What our own processes still do there is cut off."""
        if self.connection.closed:  # whoever ended the session: the schema must go
            self.connection = psycopg.connect(self.url, autocommit=True, application_name="fairchild:bench")
        elif self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self.connection.close()
            self.connection = psycopg.connect(self.url, autocommit=True, application_name="fairchild:bench")
        self.execute(f"DROP SCHEMA IF EXISTS {quote(schema)} CASCADE".encode())
        if schema in self._locks:
            self.execute(_UNLOCK.encode(), {"key": self._locks.pop(schema)})

    def checkpoint(self) -> None:
        """Have one made now, so that none comes due during a measurement."""
        try:
            self.execute(b"CHECKPOINT")
        except psycopg.errors.InsufficientPrivilege:
            self.note("this role may not run CHECKPOINT, so one may come during a measurement")

    def note(self, text: str) -> None:
        """Something that whoever reads the numbers should know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def server_seconds(self) -> float | None:
        """CPU seconds of all of the server's processes, the background ones and other sessions included."""
        return None if self.postmaster is None else machine.cpu_seconds(self.postmaster)

    def wal(self) -> int:
        """Bytes of write-ahead log that the server has ever written."""
        return int(self.execute(b"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")[0][0])

    def transactions(self) -> int:
        """Transactions that have ended in this database; a statement by itself is one."""
        row = self.execute(
            b"SELECT (xact_commit + xact_rollback)::bigint FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(row[0][0])

    def is_superuser(self) -> bool:
        """Whether our role may set what only superusers may."""
        return str(self.execute(b"SHOW is_superuser")[0][0]) == "on"

    def url_with(self, **settings: str) -> str:
        """The URL of the same database for sessions with these settings of the server."""
        given = str(conninfo_to_dict(self.url).get("options") or "")
        more = " ".join(f"-c {name}={value}" for name, value in settings.items())
        return make_conninfo(self.url, options=f"{given} {more}".strip())

    def wait_until_drained(self, tables: Tables, deadline: float, pause: float = 0.005) -> float:
        """Wait until no job is left; the time of the monotonic clock at which that was seen."""
        while tables.pending():
            if time.monotonic() > deadline:
                raise BenchError(f"there are jobs left after {self.plan.limit:.0f} s")
            time.sleep(pause)
        return time.monotonic()

    def describe(self) -> dict[str, Any]:
        """The server: its version, and the settings that decide most."""
        settings = ("shared_buffers", "synchronous_commit", "fsync", "full_page_writes", "autovacuum", "wal_level")
        found = {name: str(self.execute(f"SHOW {name}".encode())[0][0]) for name in settings}
        version = str(self.execute(b"SHOW server_version")[0][0])
        local = self.postmaster is not None
        return {"postgresql": version, "on_this_machine": local, "settings": found}

    def _find_postmaster(self) -> int | None:
        host = str(conninfo_to_dict(self.url).get("host") or "")
        found = None
        if not host or host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}:
            found = machine.postmaster_of(self.connection.info.backend_pid)
        if found is None:
            self.note("the server's processes cannot be seen from here, so its CPU time is not known")
        return found

    def _sweep(self) -> None:
        """Drop what runs left behind that were killed."""
        for (schema,) in self.execute(_FIND.encode()):
            key = _key(schema)
            if self.execute(_TRY_LOCK.encode(), {"key": key})[0][0]:
                self.drop(schema)
                self.execute(_UNLOCK.encode(), {"key": key})


def _key(schema: str) -> int:
    return int.from_bytes(hashlib.sha256(b"fairchild bench " + schema.encode()).digest()[:8], "big", signed=True)
