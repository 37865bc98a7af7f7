"""For the tests of applications that use fairchild. The fixtures are in ``fairchild.testing.plugin``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairchild.errors import UsageError

if TYPE_CHECKING:
    from fairchild.testing.replaying import Replayed, fast_forward, replay

__all__ = ["Replayed", "fast_forward", "replay", "test_database_url"]


def test_database_url(url: str, *, force: bool = False) -> str:  # noqa: PT028 - no test, whatever its name
    """The URL of the test database that belongs to ``url``.

    A name with ``_development`` becomes the same with ``_test``; a name with ``_test`` stays. Any other is refused with
    UsageError, since tests write and delete, unless ``force`` says that it is meant. A URL or a ``key=value`` string
    comes back in its own form; ``embedded:`` URLs stay as they are, with the same rule for the name of their folder.
    """
    from fairchild.embedded import is_embedded  # noqa: PLC0415 - pytest loads this module in every run

    if is_embedded(url):
        changed = _renamed(url)
        name = url.partition(":")[2]
    elif "://" in url:
        changed, name = _renamed_in_url(url)
    else:
        changed, name = _renamed_in_string(url)
    if "_test" in name or force:
        return url
    if changed is None:
        raise UsageError(
            f"{name or 'a database without a name'} does not look like a database for tests: its name has no _test; "
            "nothing was touched; rename it, or say force=True if losing its content is no loss"
        )
    return changed


def __getattr__(name: str) -> Any:
    """These are imported when first used: pytest loads this module in every run."""
    if name in ("Replayed", "fast_forward", "replay"):
        from fairchild.testing import replaying  # noqa: PLC0415 - see above

        return getattr(replaying, name)
    raise AttributeError(f"module 'fairchild.testing' has no attribute {name!r}")


# pytest would collect it wherever it is imported.
test_database_url.__test__ = False  # type: ignore[attr-defined]


def _renamed(text: str) -> str | None:
    return text.replace("_development", "_test") if "_development" in text else None


def _renamed_in_url(url: str) -> tuple[str | None, str]:
    from urllib.parse import quote, unquote  # noqa: PLC0415 - as above

    before, scheme, rest = url.partition("://")
    rest, question, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    name = unquote(path)
    if not name and question:
        parameters = query.split("&")
        for at, parameter in enumerate(parameters):
            key, _, value = parameter.partition("=")
            if key == "dbname":
                changed = _renamed(unquote(value))
                parameters[at] = f"dbname={quote(changed or '', safe='')}"
                whole = f"{before}{scheme}{authority}{slash}{question}{'&'.join(parameters)}"
                return (whole if changed else None), unquote(value)
    changed = _renamed(name)
    if changed is None:
        return None, name
    return f"{before}{scheme}{authority}{slash}{quote(changed, safe='')}{question}{query}", name


def _renamed_in_string(conninfo: str) -> tuple[str | None, str]:
    from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415 - as above

    given = conninfo_to_dict(conninfo)
    name = str(given.get("dbname") or "")
    changed = _renamed(name)
    return (make_conninfo("", **{**given, "dbname": changed}) if changed else None), name
