"""What Alembic runs to reach the database.

``fairchild.db.migrate`` hands over a connection with its transaction and lock in place. On the command line of a
checkout (``alembic upgrade head``) there is none, and one is opened here in the very same way. No logging is set up:
that is the business of the program.
"""

from __future__ import annotations

import os

from alembic import context

from fairchild.db import migrate, tables

OPTIONS = {
    "target_metadata": tables.metadata,
    "version_table": migrate.VERSION_TABLE,
    "transactional_ddl": True,
}


def offline(schema: str | None) -> None:
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        version_table_schema=schema,
        **OPTIONS,
    )
    with context.begin_transaction():
        if schema is not None:
            context.execute(migrate.create_schema_sql(schema))
        context.run_migrations()
        context.execute(migrate.works_from_sql(schema))


def online() -> None:
    given = context.config.attributes
    if "connection" in given:
        context.configure(connection=given["connection"], version_table_schema=given["schema"], **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()
            context.execute(migrate.works_from_sql(given["schema"]))
        return
    url = os.environ["FAIRCHILD_DATABASE_URL"]
    with migrate.locked_transaction(url, os.environ.get("FAIRCHILD_SCHEMA")) as (connection, schema):
        migrate.ensure_schema(connection, schema)
        context.configure(connection=connection, version_table_schema=schema, **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()
            context.execute(migrate.works_from_sql(schema))


if context.is_offline_mode():
    offline(context.config.attributes.get("schema", os.environ.get("FAIRCHILD_SCHEMA")))
else:
    online()
