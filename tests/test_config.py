"""Where the settings come from, and that no password comes out of them."""

from __future__ import annotations

import pytest

from fairchild.config import Config, check_identifier, hide_parts, hide_password, normalize_url
from fairchild.errors import ConfigError

CANARY = "c4n4ry"


def test_an_argument_wins_over_the_environment() -> None:
    environ = {"FAIRCHILD_DATABASE_URL": "postgresql://env/db", "FAIRCHILD_SCHEMA": "from_env"}

    assert Config.load(environ=environ).url == "postgresql://env/db"
    assert Config.load(environ=environ).schema == "from_env"
    assert Config.load("postgresql://arg/db", schema="arg", environ=environ).url == "postgresql://arg/db"
    assert Config.load(schema="arg", environ=environ).schema == "arg"


@pytest.mark.parametrize("name", ["PGHOST", "PGDATABASE", "PGSERVICE", "PGHOSTADDR"])
def test_the_variables_of_libpq_will_do(name: str) -> None:
    assert Config.load(environ={name: "x"}).url == "postgresql://"


@pytest.mark.parametrize("environ", [{}, {"FAIRCHILD_DATABASE_URL": ""}, {"PGUSER": "me"}])
def test_with_no_database_the_error_names_the_variable(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="FAIRCHILD_DATABASE_URL"):
        Config.load(environ=environ)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgres://u:p@h:1/d?a=b", "postgresql://u:p@h:1/d?a=b"),
        ("postgresql+psycopg://h/d", "postgresql://h/d"),
        ("postgresql+psycopg2://h/d", "postgresql://h/d"),
        ("host=h dbname=d", "host=h dbname=d"),
        ("embedded:", "embedded:"),
        ("embedded:some/path", "embedded:some/path"),
    ],
)
def test_a_url_may_be_written_in_several_ways(given: str, meant: str) -> None:
    assert normalize_url(given) == meant


@pytest.mark.parametrize("url", [f"postgresql://u:x@{CANARY}@h/d", f"postgres://u:{CANARY}@@h"])
def test_an_at_sign_in_a_password_must_be_written_as_40(url: str) -> None:
    with pytest.raises(ConfigError, match="%40") as refusal:
        normalize_url(url)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize("url", [f"mysql://u:{CANARY}@h/d", f"sqlite:///{CANARY}", "nonsense"])
def test_a_url_of_another_database_is_refused_by_its_scheme_alone(url: str) -> None:
    with pytest.raises(ConfigError, match="must start with postgresql://") as refusal:
        normalize_url(url)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize("options", [{"pool_size": 0}, {"max_payload_bytes": 0}, {"schema": ""}, {"schema": "x" * 64}])
def test_impossible_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Config.load("postgresql://h/d", environ={}, **options)  # type: ignore[arg-type]


def test_an_identifier_is_measured_in_bytes() -> None:
    check_identifier("schema", "ü" * 31)
    with pytest.raises(ConfigError, match="63 bytes"):
        check_identifier("schema", "ü" * 32)
    with pytest.raises(ConfigError, match="NUL"):
        check_identifier("schema", "a\x00b")


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{CANARY}@h/d",
        f"postgresql://u:{CANARY}@h/d?application_name=a@b",
        f"postgresql://:{CANARY}@h/d",
        f"postgresql://u:pa@{CANARY}@h/d",
        f"postgresql://u:pa/{CANARY}@h/d",
        f"postgresql://u@h/d?password={CANARY}&sslmode=require",
        f"could not connect to postgresql://u:{CANARY}@h/d, sorry",
        f"host=h password={CANARY} dbname=d",
        f"host=h password = '{CANARY} with \\' blanks' dbname=d",
        f"PASSWORD={CANARY}",
    ],
)
def test_no_password_stays_in_a_text(text: str) -> None:
    assert CANARY not in hide_password(text)


def test_the_rest_of_a_text_stays() -> None:
    assert hide_password("postgresql://u:x@h:5432/d?sslmode=off") == "postgresql://u:***@h:5432/d?sslmode=off"
    assert hide_password("host=h password=x dbname=d") == "host=h password=*** dbname=d"
    assert hide_password("postgresql://u@h/d: no password there") == "postgresql://u@h/d: no password there"


def test_pieces_of_a_password_in_the_complaint_of_libpq_are_hidden() -> None:
    url = "postgresql://u:pa%zz/word@h/d"

    assert hide_parts('invalid percent-encoded token: "pa%zz"', url) == 'invalid percent-encoded token: "***"'
    assert hide_parts('invalid URI query parameter: "foo"', url) == 'invalid URI query parameter: "foo"'


def test_settings_show_no_password() -> None:
    config = Config.load(f"postgresql://u:{CANARY}@h/d", environ={})

    assert CANARY not in repr(config)
    assert "u:***@h/d" in repr(config)


def test_the_default_timeout_is_a_positive_number_of_seconds() -> None:
    environ = {"FAIRCHILD_DATABASE_URL": "postgresql://h/d", "FAIRCHILD_DEFAULT_TIMEOUT": "3600"}

    assert Config.load("postgresql://h/d", environ={}).default_timeout is None
    assert Config.load(environ=environ).default_timeout == 3600
    assert Config.load(default_timeout=5, environ=environ).default_timeout == 5
    for wrong in ("an hour", "0", "-1", "inf", "nan"):
        with pytest.raises(ConfigError, match="FAIRCHILD_DEFAULT_TIMEOUT"):
            Config.load(environ={**environ, "FAIRCHILD_DEFAULT_TIMEOUT": wrong})
