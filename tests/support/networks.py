"""Networks of a test's own: a host beside this one, and what can go wrong on the way. Needs root, ip, iptables, tc.

The host is a network namespace; a pair of virtual interfaces leads there. Nothing of this machine's own networks is
touched, and at the end of the block nothing is left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Host:
    """Another host: ``here`` is this machine's address on the way to it, ``there`` its own."""

    def __init__(self, number: int) -> None:
        self.name = f"fc{os.getpid()}n{number}"
        self._out, self._in = f"fco{os.getpid()}"[:15], f"fci{os.getpid()}"[:15]
        net = f"10.{64 + os.getpid() % 128}.{number}"
        self.here, self.there = f"{net}.1", f"{net}.2"

    def make(self) -> None:
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._out, "type", "veth", "peer", "name", self._in, "netns", self.name)
        run("ip", "addr", "add", f"{self.here}/24", "dev", self._out)
        run("ip", "link", "set", self._out, "up")
        self.inside("ip", "addr", "add", f"{self.there}/24", "dev", self._in)
        self.inside("ip", "link", "set", self._in, "up")

    def remove(self) -> None:
        run("ip", "link", "del", self._out, check=False)
        run("ip", "netns", "del", self.name, check=False)

    def inside(self, *command: str, check: bool = True) -> None:
        run("ip", "netns", "exec", self.name, *command, check=check)

    def python(self, *arguments: str, environment: dict[str, str], output: int | None = None) -> subprocess.Popen[str]:
        """A Python there. It has no other network than the one to here."""
        command = ["ip", "netns", "exec", self.name, sys.executable, *arguments]
        command[0] = shutil.which("ip", path=PATH) or "ip"
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output, text=True)

    def drop_sent(self) -> None:
        """Nothing that it sends arrives."""
        self.inside("iptables", "-A", "OUTPUT", "-d", self.here, "-j", "DROP")

    def drop_received(self) -> None:
        """Nothing that is sent to it arrives; what it sends does."""
        self.inside("iptables", "-A", "INPUT", "-s", self.here, "-j", "DROP")

    def heal(self) -> None:
        """Everything arrives again."""
        self.inside("iptables", "-F")

    def lose(self, share: float) -> None:
        """This share of the packets is lost, each way."""
        for chain in ("INPUT", "OUTPUT"):
            self.inside(
                "iptables",
                "-A",
                chain,
                "-m",
                "statistic",
                "--mode",
                "random",
                "--probability",
                str(share),
                "-j",
                "DROP",
            )

    def delay(self, milliseconds: int) -> bool:
        """Each packet takes so much longer, each way; whether this machine's kernel can do that."""
        for command in (("dev", self._out), ("dev", self._in)):
            arguments = ["tc", "qdisc", "replace", *command, "root", "netem", "delay", f"{milliseconds}ms"]
            prefix = [] if command[1] == self._out else ["ip", "netns", "exec", self.name]
            program = shutil.which((prefix or arguments)[0], path=PATH) or ""
            whole = [program, *[*prefix, *arguments][1:]]
            if subprocess.run(whole, capture_output=True, check=False, env={"PATH": PATH}).returncode != 0:
                return False
        return True


def run(program: str, *arguments: str, check: bool = True) -> None:
    found = shutil.which(program, path=PATH)
    assert found is not None, f"{program} is not installed"
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, env={"PATH": PATH})
    assert not check or done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr}"


@contextmanager
def host(number: int = 1) -> Iterator[Host]:
    """Another host, until the end of the block."""
    made = Host(number)
    try:
        made.make()
        yield made
    finally:
        made.remove()
