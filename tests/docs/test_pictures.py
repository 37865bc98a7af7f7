"""The pictures of the pages: all that are shown are there, and all that are there are shown."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_pictures_are_those_that_the_pages_show() -> None:
    shown = set()
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        for path in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text()):
            shown.add((page.parent / path).resolve())
    assert shown == set((ROOT / "docs" / "pictures").iterdir())
