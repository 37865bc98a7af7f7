"""What no page may do with a text of a user: treat it as markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "fairchild" / "web"
FORBIDDEN = {
    ".js": re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment"
    ),
    ".html": re.compile(r"\|\s*safe\b|autoescape\s+false|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+="),
    ".py": re.compile(r"\bMarkup\b|import requests|urllib\.request|http\.client"),
}


@pytest.mark.parametrize("file", sorted(WEB.rglob("*")), ids=lambda file: str(file.relative_to(WEB)))
def test_no_text_is_markup_and_nothing_is_fetched(file: Path) -> None:
    forbidden = FORBIDDEN.get(file.suffix)
    if forbidden is not None:
        assert forbidden.findall(file.read_text()) == []
