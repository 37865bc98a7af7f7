"""What the newest jobs have in their columns and arguments, to be offered where a filter is typed."""

from __future__ import annotations

from typing import NamedTuple

from fairchild.db.connect import Link
from fairchild.db.statement import Sql

JOBS_READ = 5000
VALUES_KEPT = 100
ROWS_KEPT = 5000
LARGE = 2000
"""Bytes as stored, above which arguments are not looked into: they would be fetched from elsewhere and unpacked."""
LONG = 80

# For people who type, at most every five minutes. The newest jobs by the primary key; arguments down to the second
# level. What is named like a marker of ours, or cannot be written in a filter, is left out.
SAMPLE = Sql(
    "sample",
    f"""
WITH newest AS MATERIALIZED (
  SELECT task, queue, tenant, tags,
         CASE WHEN pg_column_size(args) <= {LARGE} AND jsonb_typeof(args) = 'object' THEN args
              ELSE '{{{{}}}}' END AS args
    FROM {{jobs}} ORDER BY id DESC LIMIT {JOBS_READ}),
first AS MATERIALIZED (
  SELECT a.key, a.value FROM newest, jsonb_each(newest.args) a WHERE a.key !~ '[\\s:<>".$]' AND a.key <> ''),
leaves AS (
  SELECT 'args.' || key AS key, value FROM first
  UNION ALL
  SELECT 'args.' || f.key || '.' || b.key, b.value
    FROM first f, jsonb_each(CASE WHEN jsonb_typeof(f.value) = 'object' THEN f.value ELSE '{{{{}}}}' END) b
   WHERE b.key !~ '[\\s:<>".$]' AND b.key <> ''),
found AS (
  SELECT key, CASE WHEN length(value #>> '{{{{}}}}') <= {LONG} THEN value #>> '{{{{}}}}' END AS value FROM leaves
   WHERE jsonb_typeof(value) IN ('string', 'number', 'boolean')
  UNION ALL SELECT 'task', task FROM newest
  UNION ALL SELECT 'queue', queue FROM newest
  UNION ALL SELECT 'tenant', tenant FROM newest WHERE tenant <> ''
  UNION ALL SELECT 'tag', unnest(tags) FROM newest)
SELECT key, value, n FROM (
  SELECT key, value, count(*) AS n, row_number() OVER (PARTITION BY key ORDER BY count(*) DESC, value) AS place
    FROM found GROUP BY key, value) ranked
 WHERE place <= {VALUES_KEPT} ORDER BY key, place LIMIT {ROWS_KEPT}""",
)


class Sampled(NamedTuple):
    """A value and how many of the jobs looked at have it. ``key`` as in the filter: ``tag``, ``args.user.id``."""

    key: str
    value: str | None
    """None: too long to be offered."""
    jobs: int


def sample(link: Link) -> list[Sampled]:
    """The values that are met most, by key."""
    return [Sampled(*row) for row in link.rows(SAMPLE)]
