"""Failpoints: read once, refused when they cannot mean anything, and nothing at all without their variable."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairchild import failpoints
from fairchild.errors import ConfigError
from fairchild.failpoints import SITES, Fault, parse
from tests.support.command import environment

PACKAGE = Path(failpoints.__file__).parent


def test_a_text_says_what_happens_where() -> None:
    assert parse(" claim.after=kill:0.05; finish.before=sleep:3;run.after=raise;run.before=sleep:0.5:0.1;") == {
        "claim.after": Fault("kill", 0.0, 0.05),
        "finish.before": Fault("sleep", 3.0, 1.0),
        "run.after": Fault("raise", 0.0, 1.0),
        "run.before": Fault("sleep", 0.5, 0.1),
    }
    assert parse("") == {}


@pytest.mark.parametrize(
    "text",
    ["claim.after", "claim.after=", "nowhere=kill", "claim.after=explode", "claim.after=kill:2", "claim.after=kill:x",
     "claim.after=kill:0.1:0.1", "claim.after=sleep:-1", "=kill"],
)  # fmt: skip
def test_a_text_that_cannot_mean_anything_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"FAIRCHILD_FAILPOINTS cannot mean .*SITE=kill.*claim\.after"):
        parse(text)


def test_every_place_is_one_in_the_code_and_looks_first_whether_there_is_anything_to_do() -> None:
    found = []
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        hits = re.findall(r'failpoints\.hit\("([a-z._]+)"\)', text)
        assert text.count("if failpoints.ARMED") == len(hits), file
        found += hits
    assert set(found) == set(SITES)


def test_without_the_variable_nothing_is_armed() -> None:
    assert not failpoints.ARMED


def test_armed_it_kills_raises_or_waits() -> None:
    def python(fault: str) -> subprocess.CompletedProcess[str]:
        code = (
            "from fairchild import failpoints as f; assert f.ARMED; f.hit('run.after'); f.hit('run.before'); print(1)"
        )
        return subprocess.run(
            [sys.executable, "-c", code], env=environment(FAIRCHILD_FAILPOINTS=fault), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    killed, raised, waited = (python(f"run.before={what}") for what in ("kill", "raise", "sleep:0.01"))

    assert (killed.returncode, killed.stdout) == (-9, "")
    assert raised.returncode == 1
    assert "DatabaseUnavailable: failpoint run.before" in raised.stderr
    assert (waited.returncode, waited.stdout) == (0, "1\n")
