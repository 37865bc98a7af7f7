"""Everything works through a real PgBouncer in transaction mode; only LISTEN does not, and that is noticed.

Needs Debian's package pgbouncer (or another that puts the program on the PATH); skipped without it.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fairchild import Fairchild, Record
from fairchild.tasks import Registry
from fairchild.worker import Worker
from fairchild.worker.listener import Listener
from tests.support.eventually import eventually

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
PATIENCE = 30.0

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer on this machine")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def bouncer(fairchild_db: str) -> Iterator[str]:
    """The URL of a PgBouncer in transaction mode with two server connections, in front of this test's database."""
    assert PROGRAM is not None
    server = conninfo_to_dict(fairchild_db)
    folder = Path(tempfile.mkdtemp(prefix="fairchild-bouncer-"))
    port = free_port()
    # It does not run as root. The server's socket may be in a folder that only its own user can enter.
    user = Path(str(server["host"])).stat().st_uid if os.geteuid() == 0 else None
    (folder / "users.txt").write_text(f'"{server["user"]}" "unused"\n')
    (folder / "bouncer.ini").write_text(
        f"""
[databases]
* = host={server["host"]} port={server.get("port", 5432)} user={server["user"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
"""
    )
    if user is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, user, -1)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAM, str(folder / "bouncer.ini")],
            stdout=log,
            stderr=subprocess.STDOUT,
            user=user,
            extra_groups=None if user is None else [],
        )
    url = f"postgresql://{server['user']}@127.0.0.1:{port}/{server['dbname']}"

    def answers() -> bool:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        eventually(answers, 10.0, what=(folder / "log").read_text)
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


@pytest.fixture
def client(bouncer: str) -> Iterator[Fairchild]:
    with Fairchild(bouncer, registry=Registry()) as made:
        yield made


def test_f46_the_pooler_is_noticed_and_a_direct_connection_is_not_taken_for_one(
    client: Fairchild, fairchild_db: str
) -> None:
    assert client.database.pooled
    direct = Fairchild(fairchild_db, registry=Registry())
    assert not direct.database.pooled
    direct.disconnect()


def test_f46_jobs_workflows_cancel_and_retry_work_through_the_pooler(
    client: Fairchild, caplog: pytest.LogCaptureFixture
) -> None:
    @client.task(name="pooled.double")
    def double(n: int) -> Record[int]:
        return Record(2 * n)

    @client.task(name="pooled.total")
    def total(values: list[int]) -> Record[int]:
        return Record(sum(values))

    @client.task(name="pooled.root")
    def root(n: int) -> Record[int]:
        return total(values=[double(n=each) for each in range(n)])  # type: ignore[return-value]

    @client.task(name="pooled.broken", max_attempts=2, backoff="none")
    def broken() -> None:
        raise ValueError("as expected")

    caplog.set_level(logging.WARNING, logger="fairchild.worker")
    with Worker(client, concurrency=4, lease=4, poll_interval=0.05) as worker:
        many = client.enqueue_many(double, ({"n": n} for n in range(3000)))
        flow = client.enqueue(root, {"n": 300})
        bad = client.enqueue(broken)
        later = client.enqueue(double, {"n": 1}, delay=3600)
        assert client.get_result(flow.id, timeout=PATIENCE) == 300 * 299
        done = client.wait(many, timeout=PATIENCE)
        assert [job.result for job in done] == [2 * n for n in range(3000)]
        assert bad.wait(timeout=PATIENCE).state == "failed"
        assert bad.retry().state in {"available", "running", "failed"}
        assert bad.wait(timeout=PATIENCE).attempt == 3
        assert later.cancel("not needed").state == "cancelled"
        eventually(lambda: "do not arrive" in caplog.text, PATIENCE)
        assert worker.alive
    assert caplog.text.count("do not arrive") == 1


def test_f47_a_deaf_connection_is_never_taken_for_a_listening_one(client: Fairchild) -> None:
    for _ in range(5):
        listener = Listener(client.database, "fairchild:probe", lambda: None, lambda: None)
        assert listener.step() is None
        listener.close()


def test_f46_a_job_of_a_transaction_through_the_pooler_is_there_exactly_if_it_commits(
    client: Fairchild, bouncer: str
) -> None:
    @client.task(name="pooled.noop")
    def noop() -> None: ...

    with psycopg.connect(bouncer, prepare_threshold=None) as connection:
        kept = client.enqueue(noop, connection=connection)
        connection.commit()
        dropped = client.enqueue(noop, connection=connection)
        connection.rollback()
    assert client.get_job(kept.id) is not None
    assert client.get_job(dropped.id) is None


def test_f46_the_commands_that_set_up_work_through_the_pooler(client: Fairchild) -> None:
    assert client.install() == []
    assert client.pending_migrations() == []
