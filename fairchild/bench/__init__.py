"""Measuring fairchild on a server of one's own, beside what that server can do at all.

``run()`` measures in throwaway schemas, ``report`` prints. Numbers are never asserted: they belong to a machine and a
minute, and what can be judged are the ratios within one run.
"""

from __future__ import annotations
