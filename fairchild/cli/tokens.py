"""``fairchild tokens``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairchild.cli.options import DatabaseUrl, Json, Schema, connected, option
from fairchild.cli.output import print_json, print_table, say


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Secrets for programs that use the JSON API.", rich_markup_mode=None)
    group.command("create")(create)
    group.command("list")(list_tokens)
    group.command("revoke")(revoke)
    app.add_typer(group, name="tokens")


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, for people.")],
    rights: Annotated[
        str,
        option(
            "--rights", env="TOKENS_RIGHTS", help="view, operate or admin, or rights such as jobs:insert, with commas."
        ),
    ] = "view",
    expires: Annotated[
        str | None, option("--expires", env="TOKENS_EXPIRES", metavar="DURATION", help="When it expires: 30d, 12h.")
    ] = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Make a token and print its secret, which is kept nowhere and shown only now."""
    from fairchild.cli.parse import duration  # noqa: PLC0415 - help comes first

    lasts = None if expires is None else duration("--expires", expires)
    with connected(database_url, schema) as client:
        token, secret = client.tokens.create(name, [each.strip() for each in rights.split(",") if each.strip()], lasts)
    if json:
        print_json({**_shown(token), "secret": secret})
        return
    print(secret)
    say(f"{token.id} {token.name}: {', '.join(token.rights)}")


def list_tokens(json: Json = False, database_url: DatabaseUrl = None, schema: Schema = None) -> None:
    """All tokens, newest first. Their secrets are kept nowhere."""
    with connected(database_url, schema) as client:
        tokens = client.tokens.list()
    if json:
        print_json([_shown(each) for each in tokens])
        return
    print_table(
        ["id", "name", "rights", "created", "expires", "revoked"],
        [[t.id, t.name, ", ".join(t.rights), t.created_at, t.expires_at, t.revoked_at] for t in tokens],
    )


def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The token's id.")],
    json: Json = False,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Let a token open nothing any more."""
    with connected(database_url, schema) as client:
        token = client.tokens.revoke(id)
    if json:
        print_json(_shown(token))
    else:
        say(f"{token.name} opens nothing any more")


def _shown(token: Any) -> dict[str, Any]:
    shown: dict[str, Any] = token._asdict()
    return shown
