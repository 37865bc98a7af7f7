"""``fairchild ui``."""

from __future__ import annotations

from typing import Annotated

import typer

from fairchild.cli.options import DatabaseUrl, Imports, Schema, connected, option


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(ui)


def ui(
    imports: Imports = None,
    host: Annotated[str, option("--host", env="UI_HOST", help="Where to listen.")] = "localhost",
    port: Annotated[int, option("--port", "-p", env="UI_PORT", help="Where to listen.", min=1, max=65535)] = 8080,
    token: Annotated[
        str | None,
        option("--token", env="UI_TOKEN", metavar="SECRET", help="What whoever opens the pages must know."),
    ] = None,
    insecure: Annotated[
        bool, option("--insecure", env="UI_INSECURE", help="Let everybody in who can reach it, to do everything.")
    ] = False,
    read_only: Annotated[bool, option("--read-only", env="UI_READ_ONLY", help="Look, and change nothing.")] = False,
    probes: Annotated[
        bool, option("--probes", env="UI_PROBES", help="Answer /livez and /readyz to everybody, not only here.")
    ] = False,
    threads: Annotated[
        int, option("--threads", env="UI_THREADS", help="How many requests at once.", min=4, max=1000)
    ] = 32,
    database_url: DatabaseUrl = None,
    schema: Schema = None,
) -> None:
    """Serve the pages and the JSON API. Tasks that live workers know can be enqueued without --import."""
    from importlib.util import find_spec  # noqa: PLC0415 - help comes first

    from fairchild.cli.modules import import_all  # noqa: PLC0415
    from fairchild.cli.output import say  # noqa: PLC0415
    from fairchild.errors import ConfigError  # noqa: PLC0415

    if find_spec("flask") is None:
        raise ConfigError("the pages need Flask: pip install 'fairchild[ui]'")
    from fairchild.web.server import make_app, serve  # noqa: PLC0415

    import_all(imports)
    with connected(database_url, schema) as client:
        app = make_app(
            client, host, token=token, insecure=insecure, read_only=read_only, streams=threads // 4, probes=probes
        )
        say(f"fairchild is at http://{f'[{host}]' if ':' in host else host}:{port}/ (Ctrl-C stops it)")
        if token is None and not insecure:
            say(
                "Whoever asks from this machine may do everything; a proxy here must send X-Forwarded-For, or all "
                "whom it serves may too (docs/http.md)"
            )
        serve(app, host, port, threads)
