"""Ids of jobs: UUIDs of version 7 that grow."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairchild.ids import uuid7


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    # What other tests made in a hurry may have run a little ahead of the clock.
    assert before <= made.int >> 80 <= after + 1000


def test_ids_of_one_process_grow_without_end_or_repetition() -> None:
    ids = [uuid7() for _ in range(20_000)]

    assert ids == sorted(set(ids))


def test_threads_get_ids_of_their_own_that_grow_in_each() -> None:
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda _: [uuid7() for _ in range(2_000)], range(8)))

    assert all(part == sorted(part) for part in parts)
    assert len({each for part in parts for each in part}) == 16_000


@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["Python's", "C's, as by uWSGI"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_other_ids_than_its_parent(fork: Callable[[], int]) -> None:
    uuid7()
    read, write = os.pipe()
    child = fork()
    if child == 0:
        os.write(write, b"".join(uuid7().bytes for _ in range(100)))
        os._exit(0)
    os.close(write)
    mine = {uuid7().bytes for _ in range(100)}
    with os.fdopen(read, "rb") as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)

    assert len(theirs) == 1600
    # Not even what is drawn at random may be the same: the rest is the time, and may well be.
    drawn = {made[-7:] for made in mine}
    assert drawn.isdisjoint(theirs[start + 9 : start + 16] for start in range(0, 1600, 16))
