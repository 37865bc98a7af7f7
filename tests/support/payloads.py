"""Texts that become code wherever a page forgets to escape one, and a database with each of them in every field.

What runs sets ``window.hit``. The texts are made of ways out of a context (a quote, the end of an element or a comment)
and of things that run in markup, and of oddities that have neither.
"""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

from fairchild import Fairchild, Record, current_job
from fairchild.db import lease, stacks
from fairchild.db.stacks import Frame, ThreadStack

CHUNK = 25
VIEWS = ("graph", "timeline", "list", "tasks")
RUN = "window.hit=1"
OUT = ["", '">', "'>", "-->", "</title>", "</textarea>", "</script>", "</style>", "</pre>", "]]>", "</option></select>",
       "</svg>", '\\">', "`>", "</noscript>", "--!>"]  # fmt: skip
THINGS = [
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"<svg onload={RUN}>",
    f"<svg/onload={RUN}//",
    f"<details open ontoggle={RUN}>x",
    f"<input autofocus onfocus={RUN}>",
    f"<body onload={RUN}>",
    '<iframe srcdoc="<script>parent.hit=1</script>"></iframe>',
    "<iframe src=javascript:parent.hit=1></iframe>",
    f"<a href=javascript:{RUN} id=x>x</a>",
    f'<object data="javascript:{RUN}"></object>',
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<video><source onerror={RUN}></video>",
    f'<math><mtext></mtext><img src=x onerror="{RUN}"></math>',
    f"<svg><script>{RUN}</script></svg>",
    f'<style onload="{RUN}">*{{color:red}}</style>',
]
ODD = [
    f'" onmouseover="{RUN}" x="', f"' onmouseover='{RUN}' x='", f'" autofocus onfocus="{RUN}', f"` onfocus=`{RUN}",
    f'x" style="animation:spin 1s" onanimationstart="{RUN}', f"javascript:{RUN}", f"JaVaScRiPt:{RUN}",
    f"java\tscript:{RUN}", f"\x01javascript:{RUN}", f"data:text/html,<script>{RUN}</script>",
    f"vbscript:{RUN}", "//evil.example/x.js", "{{7*7}}", "{{constructor.constructor('window.hit=1')()}}", "${7*7}",
    "{% print(7*7) %}", "{# comment", "#{7*7}", "<%= 7*7 %>", "{{config}}", "{{''.__class__.__mro__}}", "%(name)s",
    "{name!r}", "%s%n", "<!--", "<!-- -- -->", "<!--><script>window.hit=1</script>", "<![CDATA[<script>", "]]>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;", "&#60;script&#62;window.hit=1&#60;/script&#62;",
    "&#x3c;img src=x onerror=window.hit=1&#x3e;", "%3Cscript%3Ewindow.hit=1%3C/script%3E",
    "+ADw-script+AD4-window.hit=1+ADw-/script+AD4-", "\uff1cscript\uff1ewindow.hit=1\uff1c/script\uff1e",
    "<\u017fcript>window.hit=1</\u017fcript>", "<scr\u0131pt>window.hit=1</scr\u0131pt>",
    "\u2028window.hit=1\u2029", "\u202e<script>window.hit=1</script>", "\ufeff<script>window.hit=1</script>",
    "<script\x0c>window.hit=1</script>", "<script\n>window.hit=1</script>", "<SCRIPT/x>window.hit=1</SCRIPT>",
    "<scr<script>ipt>window.hit=1</script>",
]  # fmt: skip


def payloads(count: int = 300) -> list[str]:
    """So many texts, each another: all oddities, then ways out and things that run, in turn."""
    made = itertools.chain(ODD, (out + thing for out, thing in itertools.product(OUT, THINGS)))
    found = list(dict.fromkeys(made))[:count]
    assert len(found) == count
    return found


def named(text: str) -> str:
    """The text less what no name may hold: control characters, and what breaks a line."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each for each in text)


def register(client: Fairchild, texts: list[str]) -> None:
    """A task called like each of the texts, which fails with it; one that completes, and one that calls the others."""
    failing = [client.task(name=f"t{named(each)}", max_attempts=1)(_failing) for each in texts]
    client.task(name="evil.works")(_working)

    @client.task(name="evil.flow", on_child_failure="ignore")
    def flow(first: int, last: int) -> Record[int]:
        for n in range(first, last):
            failing[n](texts[n])
        return Record(last)


def _failing(x: str) -> None:
    """Fail with an exception of this name and message, raised in a file of this name."""
    current_job().log(x)
    current_job().progress(1, 2, x)
    scope: dict[str, Any] = {}
    exec(compile(f"def boom(error):\n    raise error  # {named(x)}", f"/srv/{x}.py", "exec"), scope)
    scope["boom"](type(x, (Exception,), {})(x))


def _working(x: dict[str, str]) -> Record[dict[str, str]]:
    return Record(x)


def fill(client: Fairchild, texts: list[str]) -> list[str]:
    """Put each of the texts into every field that a page shows; the paths of the pages that show them.

    Needs a worker at work on all queues.
    """
    failing = [
        client.enqueue(f"t{named(each)}", {"x": each}, queue=named(each), tenant=named(each), tags=[named(each)],
                       meta={each: each})
        for each in texts
    ]  # fmt: skip
    cancelled = [client.enqueue("evil.unknown", {each: {each: [each]}}, delay=600) for each in texts]
    for job, each in zip(cancelled, texts, strict=True):
        client.cancel(job, named(each))
    chunks = [texts[at : at + CHUNK] for at in range(0, len(texts), CHUNK)]
    working = [client.enqueue("evil.works", {"x": {each: each for each in chunk}}) for chunk in chunks]
    starts = range(0, len(texts), CHUNK)
    flows = [client.enqueue("evil.flow", {"first": at, "last": min(at + CHUNK, len(texts))}) for at in starts]
    composed = [
        client.workflows.create(
            {"name": named(each), "nodes": [{"key": each, "task": "evil.works", "args": {"x": {}}}]}
        )
        for each in texts[::CHUNK]
    ]
    sessions = [_session(client, each, failing[0].id) for each in texts]
    for each in texts:
        client.add_audit_entry(each, each, each, 1)
    client.wait([*failing, *working, *flows], timeout=120)
    return [
        *(f"jobs/{job.id}" for job in (*failing, *cancelled, *working)),
        *(f"workflows/{job.id}?view={view}&group=root" for job in flows for view in VIEWS),
        *(f"workflows/{each.id}" for each in composed),
        *(f"errors/{job.refresh().errors[-1]['fingerprint']}" for job in failing),
        *(f"queues/{quote(named(each), safe='')}" for each in texts[::CHUNK]),
        *(f"tasks/{quote('t' + named(each), safe='')}" for each in texts[::CHUNK]),
        *(f"workers/{each}" for each in sessions),
        *(f"new?from={job.id}" for job in failing[::CHUNK]),
        *(f"jobs?limit=100&q={query}" for query in ("", "state:failed", "state:cancelled", "state:completed")),
        "", "workflows", "queues", "workers", "workers?show=stale", "tasks", "new", "errors", "audit", "system",
    ]  # fmt: skip


def asked(text: str) -> list[str]:
    """Paths of pages that are asked with a text wherever they take one."""
    each, quoted_ = quote(text, safe=""), quote('"' + text.replace('"', '\\"') + '"', safe="")
    return [
        f"jobs?q={each}&did={each}&n={each}&window={each}", f"jobs?q=task:{quoted_}&limit={each}",
        f"jobs?add={each}&before={each}", f"new?task={each}&raw={each}", f"?window={each}&did={each}", f"go?to={each}",
        f"workflows?q={each}", f"errors/{each}", f"workers/{each}", f"queues/{each}", f"tasks/{each}", f"jobs/{each}",
    ]  # fmt: skip


def _session(client: Fairchild, text: str, job: UUID) -> UUID:
    """A worker of this name that has answered where its threads are."""
    session, names = uuid4(), {"version": text, "kind": text, text[:50]: text}
    frame = Frame(f"/srv/{text}.py", 1, text, text)
    threads = [ThreadStack(text, [frame], job, text, 1, text), ThreadStack(text, [], note=text)]
    with client.database.link() as link:
        schemas = [{"name": f"s{text}", "params": [], "doc": text, "queue": text}]
        entered = lease.Session(session, text, text, 1, [text], 1, 600.0, f"c{session}", schemas, names)
        lease.open_session(link, entered)
        stacks.ask(link, [str(session)])
        stacks.answer(link, session, threads)
    return session
