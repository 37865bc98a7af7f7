"""Options that several commands share, and the client they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fairchild.client import Fairchild


def option(*names: str, env: str | list[str], help: str, **more: Any) -> Any:  # noqa: A002 - typer's own word
    """An option with its environment variable: ``env`` is the name without ``FAIRCHILD_``."""
    variables = [f"FAIRCHILD_{each}" for each in ([env] if isinstance(env, str) else env)]
    # A list even of one is printed as a list in typer's messages.
    return typer.Option(
        *names, envvar=variables if len(variables) > 1 else variables[0], help=help, show_envvar=True, **more
    )


DatabaseUrl = Annotated[
    str | None,
    option(
        "--database-url",
        env="DATABASE_URL",
        metavar="URL",
        help="postgresql://user:password@host:port/database, or embedded: for a server that needs no installation.",
    ),
]
Schema = Annotated[
    str | None, option("--schema", env="SCHEMA", help="Where the tables are, if not in the connection's own schema.")
]
Json = Annotated[bool, option("--json", env="JSON", help="Print JSON.")]
Imports = Annotated[
    list[str] | None,
    option(
        "--import",
        "-i",
        env="IMPORT",
        metavar="MODULE",
        help="Module that defines tasks; may be repeated, or several with commas between them.",
    ),
]
Args = Annotated[
    str | None, option("--args", env="ARGS", metavar="JSON", help='Arguments as a JSON object: \'{"key": "value"}\'.')
]
Arg = Annotated[
    list[str] | None,
    option(
        "--arg",
        "-a",
        env="ARG",
        metavar="KEY=VALUE",
        help="One argument; may be repeated. The value is JSON if it can be read as such, else text.",
    ),
]


@contextmanager
def connected(url: str | None, schema: str | None, *, check_schema: bool = True) -> Iterator[Fairchild]:
    """A client that has reached its database, current in the block; see ``Fairchild.connect``."""
    import logging  # noqa: PLC0415 - help comes first

    from fairchild.client import Fairchild  # noqa: PLC0415

    if not logging.getLogger().handlers:
        # What the driver reports comes as our errors as well; a connection cut by Ctrl-C is nobody's concern.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    client = Fairchild(url, schema=schema).connect(check_schema=check_schema)
    try:
        with client.active():
            yield client
    finally:
        client.disconnect()
