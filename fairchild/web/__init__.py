"""The HTTP API and the pages, as a Flask blueprint.

``app.register_blueprint(create_blueprint(fc), url_prefix="/fairchild")``. Every route states the right that it needs;
who has which right is decided in ``auth.py``. Nothing is reached but through the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from flask import Blueprint

from fairchild.client import Fairchild
from fairchild.web import api, metrics, polling, problems, stream, websocket
from fairchild.web import probes as probe_routes
from fairchild.web.auth import Anything, Authorize, Gate, Redact, Who, add_headers

__all__ = ["create_blueprint", "Gate"]


def create_blueprint(
    fc: Fairchild,
    authorize: Authorize | None = None,
    *,
    read_only: bool = False,
    streams: bool | int = False,
    ui: bool = True,
    redact: Redact | None = None,
    token: str | None = None,
    hosts: list[str] | None = None,
    who: Who | None = None,
    probes: bool = False,
    rates: Mapping[str, float] | None = None,
    name: str = "fairchild",
) -> Blueprint:
    """A blueprint with the API under ``/api`` and, with ``ui``, the pages.

    ``authorize(request, right)`` decides about each request; see ``auth.py`` for what it may answer. Without it only
    requests from this machine that name this machine are served. ``token``: a secret that opens everything to whoever
    sends it. ``read_only``: nothing that changes anything is there. ``streams``: offer ``/api/stream`` and the
    WebSocket ``/api/jobs/stream``, to so many at once in all (True: 4); each holds a thread of the host for as long as
    it is open, so leave most threads to others.
    ``redact(job)`` gives the dict of a job as it may be shown. ``hosts``: the host names answered to; others get 400.
    ``who(request)`` names the person for the audit log. ``probes``: ``/livez`` and ``/readyz`` are answered to
    everybody, not only to this machine. ``rates``: how many requests a second each who asks may send, ``{"enqueue":
    50, "change": 10}`` unless it says otherwise; more get 429.
    """
    gate = Gate(
        fc, authorize=authorize, read_only=read_only, redact=redact, token=token, hosts=hosts, who=who, probes=probes,
        rates=rates,
    )  # fmt: skip
    blueprint = Blueprint(name, __name__, template_folder="templates")
    blueprint.record(lambda state: state.app.url_map.converters.update(fairchild_any=Anything))
    blueprint.before_request(gate.check)
    blueprint.after_request(add_headers)
    problems.add_to(blueprint)
    known = api.add_to(blueprint, fc, gate)
    metrics.add_to(known)
    probe_routes.add_to(known)
    polling.add_to(known)
    if streams:
        slots = stream.Slots(stream.SLOTS if streams is True else streams)
        stream.add_to(known, slots)
        websocket.add_to(known, slots)
    if ui and find_spec("fairchild.web.pages") is not None:
        import_module("fairchild.web.pages").add_to(blueprint, fc, gate, known)
    return blueprint
