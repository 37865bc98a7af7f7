"""Where a request ends, in whatever pieces it comes."""

from __future__ import annotations

import pytest

from fairchild.web.framing import MAX_HEAD, Framing

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
WHOLE = {
    "no body": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a length": HEAD + b"content-length:5\r\n\r\nhello",
    "no length": HEAD + b"Content-Length: 0\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0A;a=b\r\n0123456789\r\n0\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n0\r\nX-Sum: 1\r\n\r\n",
}


@pytest.mark.parametrize("name", list(WHOLE))
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_the_end_is_found_and_what_follows_is_none_of_it(name: str, step: int) -> None:
    whole = WHOLE[name]
    sent = whole + b"GET /next"
    framing = Framing(100)
    for at in range(0, len(sent), step):
        end = framing.feed(sent[at : at + step])
        if end is not None:
            assert at + end == len(whole)
            assert not framing.cut_off
            return
    raise AssertionError("no end was found")


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: 101\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"e" * 60 + b"\r\nx\r\n1;" + b"e" * 60 + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
        HEAD + b"X: " + b"x" * MAX_HEAD,
    ],
)
def test_what_is_too_long_or_wrong_is_cut_off_for_somebody_else_to_refuse(sent: bytes) -> None:
    framing = Framing(100)
    assert any(framing.feed(sent[at : at + 50]) is not None for at in range(0, len(sent), 50))
    assert framing.cut_off


def test_a_word_before_the_body_is_expected_only_while_no_body_came() -> None:
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    waits, sends = Framing(100), Framing(100)
    assert waits.feed(head) is None
    assert waits.expects
    assert sends.feed(head + b"he") is None
    assert not sends.expects
