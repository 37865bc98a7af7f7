"""The filter language of the jobs page."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairchild.errors import UsageError
from fairchild.rules.query import KEYS, Query, Term, parse

ID = "019a0f5c-7a3e-7c11-8a55-3f0f4a3f9b10"


def test_a_space_is_and_a_comma_is_or_a_minus_is_not() -> None:
    assert parse("state:failed,cancelled  -queue:mail") == Query(
        (Term("state", ("failed", "cancelled")), Term("queue", ("mail",), negated=True))
    )


def test_quotes_keep_spaces_commas_and_quotes_together() -> None:
    assert parse(r'tag:"a b","c,\"d\""').terms[0].values == ("a b", 'c,"d"')


def test_comparisons_are_written_with_or_without_the_colon() -> None:
    assert parse("ran:>5s") == parse("ran>5s") == Query((Term("ran", (timedelta(seconds=5),), ">"),))
    assert parse("priority<3").terms[0] == Term("priority", (3,), "<")


def test_a_bare_word_is_an_id_if_it_looks_like_one_and_else_part_of_a_task_name() -> None:
    assert parse(ID).terms[0] == Term("id", (UUID(ID),))
    assert parse("send_email").terms[0] == Term("text", ("send_email",))
    assert parse("-send").terms[0] == Term("text", ("send",), negated=True)


def test_arguments_are_reached_by_their_path() -> None:
    assert parse("args.user.id:7").terms[0] == Term("args", ("7",), path=("user", "id"))


def test_times_are_absolute_or_so_long_ago() -> None:
    assert parse("after:2h").terms[0].values == (timedelta(hours=2),)
    assert parse('before:"2026-07-01T12:00"').terms[0].values == (datetime(2026, 7, 1, 12, tzinfo=timezone.utc),)
    assert parse('before:"2026-07-01T12:00+02:00"').terms[0].values == (datetime(2026, 7, 1, 10, tzinfo=timezone.utc),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stat:failed", "unknown key 'stat'.*state"),
        ("state:fine", "'fine' is not a state"),
        ("state:", "missing after 'state'"),
        ('tag:"a', "never closed"),
        ("ran:>5", "not a duration"),
        ("queue>3", "cannot be compared"),
        ("queue.x:3", "has no parts"),
        ("args:3", "which argument"),
        ("attempt:x", "not a whole number"),
        ("id:12", "not a job id"),
        ("after:tomorrow", "is no time"),
        ("after:0001-01-01T00:00+23:00", "out of range"),
        ("tag:\x00", "NUL"),
        ("ran:5s", "write ran:>5s"),
        ("attempt>1,2", "compared with one value"),
        ("args.n>x", "not a number"),
        ("after:1h,2h", "takes one time"),
        ("a:b>c", "unknown key|out of place"),
        ("x" * 2001, "at most 2000 characters"),
        (" ".join(f"tag:{n}" for n in range(31)), "at most 30 conditions"),
    ],
)
def test_what_cannot_be_read_is_refused_and_shown(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(text)


def test_the_last_day_is_added_only_where_nothing_else_narrows() -> None:
    assert str(parse("task:a").bounded()) == "task:a after:1d"
    assert parse("task:a").bounded().windowed
    for narrow in ("", "state:failed task:a", "state:completed", f"workflow:{ID} task:a", "task:a after:2w", ID):
        assert parse(narrow).bounded() == parse(narrow)
    assert parse("task:a after:all").bounded() == parse("task:a after:all")


def test_a_condition_is_replaced_or_taken_away() -> None:
    query = parse("state:failed task:a")
    assert str(query.with_key("state", "running")) == "task:a state:running"
    assert str(query.with_key("state", None)) == "task:a"
    assert str(query.without(query.terms[1])) == "state:failed"
    assert query.value("state") == "failed"
    assert parse("state:failed,running").value("state") is None


values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12)
terms = st.one_of(
    st.builds(
        Term,
        st.sampled_from(["queue", "task", "tag", "tenant", "error"]),
        st.lists(values, min_size=1, max_size=3).map(tuple),
        st.just("="),
        st.booleans(),
    ),
    st.builds(
        Term,
        st.just("ran"),
        st.integers(0, 10**9).map(lambda ms: (timedelta(milliseconds=ms),)),
        st.sampled_from(["<", ">"]),
        st.booleans(),
    ),
    st.builds(Term, st.just("args"), values.map(lambda v: (v,)), st.just("="), st.booleans(), st.just(("a", "b-c"))),
)


@given(st.lists(terms, max_size=6, unique=True))
def test_what_is_written_down_reads_the_same(given_terms: list[Term]) -> None:
    query = Query(tuple(given_terms))
    assert parse(str(query)) == query


@given(st.text(max_size=60) | st.lists(st.sampled_from([*KEYS, ":", ">", '"', ",", "-", " ", "a", "1s"])).map("".join))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        query = parse(text)
    except UsageError:
        return
    assert parse(str(query)) == query
