from __future__ import annotations

import json
from pathlib import Path

from fairchild import Fairchild
from fairchild.worker import Worker
from tests.support.command import fairchild as command


def test_health_exits_by_what_it_finds(fairchild: Fairchild, fairchild_db: str, tmp_path: Path) -> None:
    alone = command("health", folder=tmp_path, url=fairchild_db)
    assert alone.returncode == 1
    assert "0 at work" in alone.stdout
    fairchild.registry.add(lambda: None, name="t")
    with Worker(fairchild, name="one"):
        good = command("health", "--worker", "--name", "one", "--json", folder=tmp_path, url=fairchild_db)
        assert good.returncode == 0
        assert json.loads(good.stdout)["ok"] is True
        assert command("health", "--name", "two", folder=tmp_path, url=fairchild_db).returncode == 1
    away = command("health", "--json", folder=tmp_path, url="postgresql://127.0.0.1:1/nowhere")
    assert away.returncode == 1
    assert json.loads(away.stdout)["checks"]["database"]["ok"] is False
    assert command("health", folder=tmp_path).returncode == 2
