"""Take the pictures of the pages in ``docs/pictures`` again: ``make pictures``.

They come from the same shop as the tests, with a past from a fixed seed, so they never show what is not there.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from fairchild import Fairchild
from fairchild.embedded import TemporaryServer
from fairchild.tasks import Registry
from fairchild.worker import Worker
from tests.browser.conftest import CHROMIUM, FLAGS, serve
from tests.browser.past import an_hour, half_done
from tests.browser.shop import HELD, SLOW, fill, register

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
PICTURES: dict[str, tuple[str, Any, int, int]] = {
    "overview": ("", "light", 1280, 800),
    "jobs": ("jobs?q=tag:money+after:1d", "dark", 1280, 800),
    "job": ("jobs/{failed}", "light", 1280, 760),
    "workflow": ("workflows/{half}", "dark", 1280, 640),
    "tasks": ("workflows/{half}?view=tasks", "light", 1280, 560),
    "phone": ("", "light", 390, 780),
}
"""By name: the page, the theme, the width and the height."""


def main() -> None:
    """Write all pictures, in few colours and so in few bytes."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryServer(durable=False) as database:
        client = Fairchild(database.url, registry=Registry())
        client.install()
        register(client)
        with Worker(client, ["default", "money", "media:2"], 4, name="web-1"), sync_playwright() as playwright:
            an_hour(client)
            jobs = fill(client, evil=False)
            site, server, thread = serve(client, {**jobs, "half": half_done(client)})
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for name, (path, theme, width, height) in PICTURES.items():
                context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": height})
                page = context.new_page()
                page.goto(site.to(path), wait_until="networkidle")
                page.screenshot(path=FOLDER / f"{name}.png")
                context.close()
                _shrink(FOLDER / f"{name}.png")
            browser.close()
            SLOW.set()
            HELD.set()
            server.close()
            thread.join(5)
        client.disconnect()


def _shrink(picture: Path) -> None:
    """With fewer colours, if pngquant is there to choose them."""
    try:
        subprocess.run(["pngquant", "--force", "--ext", ".png", "48", str(picture)], check=True)
    except FileNotFoundError:
        print(f"{picture.name}: {picture.stat().st_size:,} bytes; with pngquant it would be smaller")


if __name__ == "__main__":
    main()
