from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fairchild.errors import ConfigError, UsageError
from fairchild.worker import WorkerPool
from tests.support.app import PATIENCE, App
from tests.support.eventually import eventually


@pytest.fixture
def pool(app: App, tmp_path: Path) -> WorkerPool:
    app.task(name="t")(lambda: None)
    return WorkerPool(
        app.client, name="one", poll_interval=0.1, health_port=0, health_host="127.0.0.1", health_file=tmp_path / "well"
    )


def ask(pool: WorkerPool, path: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{pool._probe.port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if error.code == 503 else None


def test_a_worker_that_is_well_says_so(pool: WorkerPool, tmp_path: Path) -> None:
    with pool:
        code, body = ask(pool, "/livez")
        assert (code, body["ok"], set(body["checks"])) == (200, True, {"loops", "threads"})
        code, body = ask(pool, "/readyz?verbose")
        assert (code, body["ok"]) == (200, True)
        assert set(body["checks"]) == {"database", "schema", "loops", "beats", "claims", "threads"}
        assert ask(pool, "/") == (404, None)
        assert (tmp_path / "well").exists()
    assert not (tmp_path / "well").exists()


def test_a_worker_without_its_database_lives_and_is_not_ready(
    pool: WorkerPool, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pool:
        monkeypatch.setattr(app.client.database, "_conninfo", "host=127.0.0.1 port=1")
        code, body = ask(pool, "/readyz")
        assert (code, body["ok"], body["checks"]["database"]["ok"]) == (503, False, False)
        assert ask(pool, "/livez")[0] == 200
        monkeypatch.undo()


def test_a_worker_with_a_dead_loop_is_not_alive_and_touches_nothing(pool: WorkerPool, tmp_path: Path) -> None:
    with pool:
        pool.worker._claiming.stop()
        pool.worker._claiming.join()
        eventually(lambda: ask(pool, "/livez")[0] == 503)
        (tmp_path / "well").unlink()
        pool._probe._next_touch = 0.0
        ask(pool, "/livez")
        eventually(lambda: pool._probe._next_touch > 0)
        assert not (tmp_path / "well").exists()


def test_a_client_that_says_nothing_holds_up_no_probe_for_long(pool: WorkerPool) -> None:
    with pool, socket.create_connection(("127.0.0.1", pool._probe.port or 0)):
        assert ask(pool, "/livez")[0] == 200


def test_a_pool_that_blocks_answers_too(pool: WorkerPool) -> None:
    thread = threading.Thread(target=pool.start)
    thread.start()
    try:
        eventually(lambda: pool.worker.alive)
        assert ask(pool, "/livez")[0] == 200
    finally:
        pool.stop()
        thread.join(PATIENCE)


def test_a_port_or_file_that_cannot_be_had_is_said(app: App, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="health port"):
            WorkerPool(app.client, health_port=port, health_host="127.0.0.1").start(block=False)
    with pytest.raises(ConfigError, match="health file"):
        WorkerPool(app.client, health_file=tmp_path / "no" / "such").start(block=False)
    with pytest.raises(UsageError, match="health_port"):
        WorkerPool(app.client, health_port=70_000)
