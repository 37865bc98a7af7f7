"""Workflows as plain JSON: from a description of nodes to calls, everything about it checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from fairchild.errors import InvalidArguments
from fairchild.future import Future
from fairchild.ids import uuid7
from fairchild.rules.dag import refuse_cycle

_OPTIONS = ("queue", "priority", "tenant", "tags", "meta", "max_attempts", "timeout", "expires", "scheduled_at")
_NODE = ("key", "task", "args", "depends_on", *_OPTIONS)
_GRAPH = ("name", "on_child_failure", "nodes")


@dataclass
class Node:
    """A call: its arguments hold Futures where the description had references."""

    id: UUID
    key: str
    task: str
    args: dict[str, Any]
    options: dict[str, Any]
    upstreams: list[str] = field(default_factory=list)


@dataclass
class Graph:
    """A description that was found to be right."""

    name: str
    on_child_failure: str
    nodes: list[Node]


def parse_graph(description: Mapping[str, Any]) -> Graph:
    """The graph that ``description`` means; see ``Workflows.create``.

    Raises InvalidArguments with the node and the field, UsageError for a circle with its keys.
    """
    _check(description, _GRAPH, "the workflow")
    found = description.get("nodes")
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        raise _wrong("the workflow", "nodes must be a list")
    calls: dict[str, Future] = {}
    for number, entry in enumerate(found):
        _check(entry, _NODE, f"node {number}")
        key, task = entry.get("key"), entry.get("task")
        if not isinstance(key, str) or not key:
            raise _wrong(f"node {number}", "key must be a text")
        if not isinstance(task, str) or not task:
            raise _wrong(f"node {key!r}", "task must be the name of a task")
        if key in calls:
            raise _wrong(f"node {key!r}", "there are two of this key")
        calls[key] = Future(uuid7(), task)
    nodes = [_node(entry, calls) for entry in found]
    refuse_cycle({node.key: node.upstreams for node in nodes})
    return Graph(description.get("name", ""), description.get("on_child_failure", "fail"), nodes)


def _node(entry: Mapping[str, Any], calls: Mapping[str, Future]) -> Node:
    key = entry["key"]
    where = f"node {key!r}"
    args = entry.get("args", {})
    if not isinstance(args, Mapping):
        raise _wrong(where, "args must be an object")
    node = Node(calls[key].job_id, key, entry["task"], {}, {})
    node.args = {name: _resolved(value, calls, node, where) for name, value in args.items()}
    depends = entry.get("depends_on", [])
    if not isinstance(depends, Sequence) or isinstance(depends, (str, bytes)):
        raise _wrong(where, "depends_on must be a list of keys")
    node.options = {name: entry[name] for name in _OPTIONS if entry.get(name) is not None}
    if depends:
        node.options["depends_on"] = [_called(each, calls, node, where) for each in depends]
    when = node.options.get("scheduled_at")
    if isinstance(when, str):
        try:
            node.options["scheduled_at"] = datetime.fromisoformat(when.replace("Z", "+00:00"))
        except ValueError:
            raise _wrong(where, f"scheduled_at is no time: {when!r}") from None
    return node


def _resolved(value: Any, calls: Mapping[str, Future], node: Node, where: str) -> Any:
    """``value`` with Futures in place of references."""
    if isinstance(value, Mapping):
        if "$value" in value and len(value) == 1:
            return value["$value"]
        if "$ref" in value:
            return _reference(value, calls, node, where)
        return {name: _resolved(each, calls, node, where) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(each, calls, node, where) for each in value]
    return value


def _reference(value: Mapping[str, Any], calls: Mapping[str, Future], node: Node, where: str) -> Future:
    called = _called(value["$ref"], calls, node, where)
    extra = set(value) - {"$ref"}
    if not extra:
        return called
    if extra == {"or_else"}:
        return called.or_else(value["or_else"])
    if extra == {"outcome"} and value["outcome"] is True:
        return called.outcome()
    raise _wrong(
        where,
        f"a $ref goes alone, with or_else, or with outcome: true, not with {', '.join(sorted(map(str, extra)))}; data "
        'that has a $ref of its own goes into {"$value": ...}',
    )


def _called(key: Any, calls: Mapping[str, Future], node: Node, where: str) -> Future:
    if not isinstance(key, str) or key not in calls:
        raise _wrong(where, f"it refers to {key!r}, and no node has this key")
    node.upstreams.append(key)
    return calls[key]


def _check(entry: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise _wrong(where, f"it must be an object, not {type(entry).__name__}")
    unknown = sorted(str(name) for name in entry if name not in names)
    if unknown:
        raise _wrong(where, f"unknown field {unknown[0]!r}; fields are {', '.join(names)}")


def _wrong(where: str, what: str) -> InvalidArguments:
    return InvalidArguments(f"{where}: {what}; nothing was enqueued")
