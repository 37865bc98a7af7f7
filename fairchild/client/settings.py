"""The settings in force and where each comes from, as people may see them: without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fairchild.config import SCHEMA_VARIABLE, TIMEOUT_VARIABLE, URL_VARIABLE, Config, hide_password


class Setting(NamedTuple):
    """One of them."""

    name: str
    value: str
    origin: str
    """``argument``, ``default``, or the variable of the environment that it comes from."""


def settings(config: Config, given: Mapping[str, Any], environment: Mapping[str, str]) -> list[Setting]:
    """All of a client's, which was made with ``given``."""
    timeout = config.default_timeout
    values = {
        "url": hide_password(config.url),
        "schema": config.schema or "the connection's own",
        "pool_size": str(config.pool_size),
        "max_payload_bytes": f"{config.max_payload_bytes:,} bytes",
        "pooler": "found out" if config.pooler is None else "yes" if config.pooler else "no",
        "max_depth": f"{config.limits.max_depth:,}",
        "max_children": f"{config.limits.max_children:,}",
        "max_descendants": f"{config.limits.max_descendants:,}",
        "default_timeout": "none" if timeout is None else f"{timeout:g} s",
    }
    return [Setting(name, value, _origin(name, given, environment)) for name, value in values.items()]


_VARIABLES = {
    "url": (URL_VARIABLE, "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"),
    "schema": (SCHEMA_VARIABLE,),
    "default_timeout": (TIMEOUT_VARIABLE,),
    "max_depth": ("FAIRCHILD_MAX_DEPTH",),
    "max_children": ("FAIRCHILD_MAX_CHILDREN",),
    "max_descendants": ("FAIRCHILD_MAX_DESCENDANTS",),
}
_DEFAULTS = {"pool_size": 10}


def _origin(name: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    if given.get(name) not in (None, _DEFAULTS.get(name)):
        return "argument"
    return next((each for each in _VARIABLES.get(name, ()) if environment.get(each)), "default")
