"""Pages as tests read them: parsed, and searched by element."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Element:
    """One element, with all text below it."""

    tag: str
    attrs: dict[str, str]
    text: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


class Page(HTMLParser):
    """A page taken apart. Raises AssertionError where elements do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert self._open == [], f"never closed: {[each.tag for each in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text.append(data)

    def all(self, tag: str, **attrs: str) -> list[Element]:
        """Elements of this tag whose attributes have these values."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attrs.items()}
        return [
            each
            for each in self.elements
            if each.tag == tag and all(each.attrs.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str, **attrs: str) -> Element:
        """The only one."""
        (found,) = self.all(tag, **attrs)
        return found

    def links(self) -> list[str]:
        """All that the page refers to on this site."""
        found = [each.attrs[name] for each in self.elements for name in ("href", "src", "action") if name in each.attrs]
        return [each for each in found if not each.startswith("#")]

    @property
    def said(self) -> str:
        """All text of the body."""
        return self.one("body").said
