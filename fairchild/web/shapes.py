"""The shapes of what the API answers, as JSON Schema, for the OpenAPI document. Fields may be added to all of them."""

from __future__ import annotations

from typing import Any

from fairchild.job import JobState

Schema = dict[str, Any]


def shape(**properties: Schema) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "required": [*properties], "properties": properties}


def many(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def named(name: str) -> Schema:
    """One of NAMED, where it stands in the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """The same, or nothing."""
    return {**schema, "type": [schema["type"], "null"]}


TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
MAPPING: Schema = {"type": "object"}
ID: Schema = {"type": "string", "format": "uuid"}
TIME: Schema = {"type": "string", "format": "date-time"}
STATE: Schema = {"type": "string", "enum": [state.value for state in JobState]}
COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}
"""By state."""
ANY: Schema = {}
OK = shape(ok=FLAG)
MAX_AGE: dict[str, Schema] = {"max_age": {"type": "integer", "minimum": 1}}
"""The query of health checks: how many seconds an available job may wait."""

_PROGRESS = {"counts": COUNTS, "total": COUNT, "progress": {"type": "number", "minimum": 0, "maximum": 1}}
_SPENT = shape(
    count=COUNT, seconds=NUMBER, p50=or_null(NUMBER), p95=or_null(NUMBER), p99=or_null(NUMBER), buckets=many(COUNT)
)
_FAMILY = {
    "jobs": many(named("Job")),
    "edges": many(shape(upstream=ID, downstream=ID, policy=TEXT)),
    **_PROGRESS,
    "cursor": or_null(ID),
}
_REASON = shape(code=TEXT, text=TEXT, blocks=FLAG, jobs=many(ID), queue=or_null(TEXT), worker=or_null(ID))
_LINE = shape(id=COUNT, attempt=COUNT, at=TIME, level=TEXT, logger=TEXT, message=TEXT, fields=MAPPING)
_POINT = shape(minute=TIME, inserted=or_null(COUNT), completed=COUNT, failed=COUNT, cancelled=COUNT)
_TIMING = shape(
    queue=TEXT, task=TEXT, inserted=or_null(COUNT), completed=COUNT, failed=COUNT, cancelled=COUNT, wait=_SPENT,
    run=_SPENT,
)  # fmt: skip
_TASK = shape(
    name=TEXT, queue=TEXT, priority=WHOLE, max_attempts=COUNT, params=many(MAPPING), docstring=TEXT, workers=COUNT
)
_ERROR = shape(
    fingerprint=TEXT, task=TEXT, type=TEXT, message=or_null(TEXT), pattern=or_null(TEXT), jobs=COUNT, first_at=TIME,
    last_at=TIME, sample=ID, tenants=COUNT, hours=many(COUNT), muted_at=or_null(TIME), muted_by=or_null(TEXT),
)  # fmt: skip
_FRAME = shape(file=TEXT, line=WHOLE, function=TEXT, code=TEXT)
_THREAD = shape(name=TEXT, frames=many(_FRAME), job=or_null(ID), task=or_null(TEXT), attempt=or_null(COUNT), note=TEXT)
_ENTRY = shape(
    id=COUNT, at=TIME, who=TEXT, action=TEXT, target=TEXT, number=COUNT, request_id=or_null(TEXT),
    before=or_null(MAPPING), after=or_null(MAPPING),
)  # fmt: skip

EVENTS = shape(events=many(shape(type=TEXT, event=TEXT, seq=COUNT, data=MAPPING)), after=TEXT, resync=FLAG, retry=COUNT)
JOBS = shape(jobs=many(named("Job")), cursor=or_null(ID))
BULK = shape(matching=COUNT, possible=COUNT, more=FLAG, changed=COUNT, refused=COUNT, dry_run=FLAG)
WHY = shape(job_id=ID, state=STATE, blocked=FLAG, reasons=many(_REASON))
LOGS = shape(lines=many(_LINE), after=COUNT)
FAMILY = shape(root_id=ID, **_FAMILY)
DELETED = shape(deleted=ID)
STATS = shape(jobs=COUNTS, queues={"type": "object", "additionalProperties": COUNTS})
TENANTS = shape(tenants=many(shape(name=TEXT, counts=COUNTS)), cursor=or_null(TEXT), exact=FLAG)
TIMESERIES = shape(minutes=many(_POINT), tasks=many(_TIMING))
TASKS = shape(tasks=many(_TASK))
ERRORS = shape(errors=many(_ERROR))
STACKS = shape(id=ID, worker=TEXT, hostname=TEXT, pid=WHOLE, asked_at=TIME, at=or_null(TIME), threads=many(_THREAD))
AUDIT = shape(entries=many(_ENTRY), cursor=or_null(COUNT))
_WORKER: dict[str, Schema] = {
    "id": ID, "name": TEXT, "hostname": TEXT, "pid": WHOLE, "state": TEXT, "queues": or_null(many(TEXT)),
    "concurrency": COUNT, "started_at": TIME, "beat_at": TIME, "paused_at": or_null(TIME), "ended_at": or_null(TIME),
    "lease": NUMBER, "metadata": MAPPING,
}  # fmt: skip
_CHECK = shape(ok=FLAG, level={"type": "string", "enum": ["ok", "warn", "fail"]}, detail=TEXT, do=TEXT)
HEALTH = shape(ok=FLAG, checks={"type": "object", "additionalProperties": _CHECK})
QUEUES = shape(queues=many(named("Queue")))
WORKERS = shape(workers=many(named("Session")))
WORKFLOWS = shape(workflows=many(shape(root=named("Job"), **_PROGRESS)), cursor=or_null(ID))
WORKFLOW = shape(id=ID, root=named("Job"), **_FAMILY)
MUTED = shape(fingerprint=TEXT, muted=FLAG)
CHANGED = shape(id=ID, changed=COUNT, more=FLAG)
RETRIED = shape(id=ID, changed=COUNT, more=FLAG, scope=TEXT, before=TIME)

NAMED: dict[str, Schema] = {
    "Job": shape(
        id=ID, task=TEXT, queue=TEXT, state=STATE, scheduled_at=or_null(TIME), args=or_null(MAPPING), priority=WHOLE,
        tenant=TEXT, attempt=COUNT, max_attempts=COUNT, result=ANY, has_result=FLAG, reason=or_null(TEXT),
        errors=many(MAPPING), tags=many(TEXT), meta=or_null(MAPPING), workflow_id=or_null(ID), parent_id=or_null(ID),
        depth=COUNT, deps=many(ID), left_out=many(TEXT), timeout=or_null(NUMBER), worker=or_null(ID),
        inserted_at=or_null(TIME),
        attempted_at=or_null(TIME), completed_at=or_null(TIME), ended_at=or_null(TIME), updated_at=or_null(TIME),
        progress=or_null(shape(value=NUMBER, total=or_null(NUMBER), message=or_null(TEXT), attempt=COUNT, at=TIME)),
    ),
    "Queue": shape(
        name=TEXT, paused=FLAG, paused_at=or_null(TIME), paused_by=or_null(TEXT), oldest_at=or_null(TIME),
        oldest_seconds=or_null(NUMBER), workers=COUNT, counts=COUNTS,
    ),
    "Worker": shape(**_WORKER),
    "Session": shape(
        **_WORKER, running=COUNT, running_by_queue=COUNTS, beat_seconds=NUMBER, catalog=or_null(TEXT), vitals=MAPPING,
    ),
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT,
            "errors": many(shape(path=TEXT, message=TEXT)),
        },
    },
}  # fmt: skip
"""What several answers hold; the document has each once."""
