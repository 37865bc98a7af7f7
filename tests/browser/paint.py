"""When a browser that knows nothing yet has painted the first of a page."""

from __future__ import annotations

from playwright.sync_api import sync_playwright

from tests.browser.conftest import CHROMIUM, FLAGS

PAINTED = """new Promise((done) => new PerformanceObserver((list) => {
  for (const each of list.getEntriesByName("first-contentful-paint")) done(each.startTime);
}).observe({ type: "paint", buffered: true }))"""


def first_paints(address: str, times: int) -> list[float]:
    """Milliseconds from the moment it was asked to go there, each time without a cache."""
    took = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for _ in range(times + 1):
            context = chromium.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(address, wait_until="load")
            took.append(float(page.evaluate(PAINTED)))
            context.close()
        chromium.close()
    return took[1:]
