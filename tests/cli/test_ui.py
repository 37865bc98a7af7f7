"""``fairchild ui``, ``tokens``, ``queues`` and ``prune`` as processes."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from fairchild import Fairchild, Registry
from tests.support.command import fairchild as command
from tests.support.command import started
from tests.support.eventually import eventually


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def status(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.parametrize("module", ["gunicorn", "waitress"])
def test_ui_serves_this_machine_and_stops_on_a_signal(fairchild_db: str, tmp_path: Path, module: str) -> None:
    if module == "waitress":  # as where there is no gunicorn
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.util as u\nfound = u.find_spec\n"
            "u.find_spec = lambda name, *more: None if name == 'gunicorn' else found(name, *more)\n"
        )
    port = free_port()
    paths = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[2]}"}
    with started(["ui", "--host", "127.0.0.1", "--port", str(port)], folder=tmp_path, url=fairchild_db, **paths) as ui:
        url = f"http://127.0.0.1:{port}/api/stats"
        eventually(lambda: status(url) == 200, 60, what=ui.said)
        assert "must send X-Forwarded-For" in ui.said()
        assert status(url, Host="attacker.example") == 400
        assert status(f"http://127.0.0.1:{port}/health") == 503
        assert status(f"http://127.0.0.1:{port}/readyz") == 200
        assert status(f"http://127.0.0.1:{port}/readyz", Host="attacker.example") == 400
        ui.process.send_signal(signal.SIGINT if module == "waitress" else signal.SIGTERM)
        assert ui.process.wait(30) == 0
        assert "Traceback" not in ui.said()


def test_ui_is_not_opened_to_others_without_a_word(fairchild_db: str, tmp_path: Path) -> None:
    refused = command("ui", "--host", "0.0.0.0", folder=tmp_path, url=fairchild_db)
    assert refused.returncode == 2
    assert "--token" in refused.stderr
    both = command("ui", "--token", "s", "--insecure", folder=tmp_path, url=fairchild_db)
    assert both.returncode == 2


def test_ui_with_a_token_and_probes_without(fairchild_db: str, tmp_path: Path) -> None:
    port = free_port()
    arguments = ["ui", "--host", "0.0.0.0", "--port", str(port), "--probes"]
    with started(arguments, folder=tmp_path, url=fairchild_db, FAIRCHILD_UI_TOKEN="s3cretive") as ui:
        url = f"http://127.0.0.1:{port}/api/stats"
        eventually(lambda: status(url) == 401, 60, what=ui.said)
        assert status(url, Authorization="Bearer s3cretive") == 200
        assert "X-Forwarded-For" not in ui.said()
        assert status(f"http://127.0.0.1:{port}/readyz", Host="10.0.0.1") == 200


def test_tokens_are_made_listed_and_revoked(fairchild_db: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = command("tokens", *arguments, folder=tmp_path, url=fairchild_db)
        assert done.returncode == 0, done.stderr
        return done.stdout

    secret = run("create", "grafana", "--rights", "view,jobs:insert", "--expires", "30d").strip()
    assert secret.startswith("fct_")
    (token,) = json.loads(run("list", "--json"))
    assert (token["name"], token["rights"], token["revoked_at"]) == ("grafana", ["view", "jobs:insert"], None)
    assert secret not in run("list")
    run("revoke", token["id"])
    with Fairchild(fairchild_db, registry=Registry()) as client:
        assert client.tokens.find(secret) is None
    wrong = command("tokens", "create", "x", "--rights", "root", folder=tmp_path, url=fairchild_db)
    assert wrong.returncode == 2
    assert "admin" in wrong.stderr


def test_queues_are_listed_paused_and_resumed(fairchild_db: str, tmp_path: Path) -> None:
    with Fairchild(fairchild_db, registry=Registry()) as client:
        client.enqueue("shop.a", queue="mail")
    assert command("queues", "pause", "mail", folder=tmp_path, url=fairchild_db).returncode == 0
    (queue,) = json.loads(command("queues", "list", "--json", folder=tmp_path, url=fairchild_db).stdout)
    assert (queue["name"], queue["paused"], queue["counts"]["available"]) == ("mail", True, 1)
    assert command("queues", "resume", "mail", folder=tmp_path, url=fairchild_db).returncode == 0
    assert "active" in command("queues", "list", folder=tmp_path, url=fairchild_db).stdout


def test_prune_deletes_what_ended_long_ago(fairchild_db: str, tmp_path: Path) -> None:
    with Fairchild(fairchild_db, registry=Registry()) as client:
        client.cancel(client.enqueue("shop.a"))
        client.enqueue("shop.a")
    kept = command("prune", folder=tmp_path, url=fairchild_db)
    assert "0 jobs" in kept.stderr
    gone = command("prune", "--older-than", "0s", "--json", folder=tmp_path, url=fairchild_db)
    assert json.loads(gone.stdout) == {"deleted": 1}
