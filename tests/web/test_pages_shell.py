"""What stands around every page: the menu, notices, and errors that are pages too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from fairchild import Fairchild
from fairchild.web.pages.site import MENU, MOST_COUNTED, NOT_IN_USE
from fairchild.web.pages.teaching import LESSONS
from tests.support.app import App
from tests.web.conftest import mounted
from tests.web.pages_support import SAME_ORIGIN, Page

Mount = Callable[..., FlaskClient]


def read(client: FlaskClient, path: str, status: int = 200, **options: Any) -> Page:
    answer = client.get(path if path.startswith("/") else f"/ops/{path}", **options)
    assert answer.status_code == status, (path, answer.status_code, answer.text[-500:])
    return Page(answer.text)


def send(client: FlaskClient, path: str, came_from: str, **form: Any) -> Any:
    headers = {**SAME_ORIGIN, "Referer": f"http://localhost/ops/{came_from}"}
    return client.post(f"/ops/{path}", data=form, headers=headers)


def test_the_menu_dims_what_is_not_in_use_and_each_of_it_is_taught(site: FlaskClient) -> None:
    page = read(site, "")
    names = {page: name for page, name, _ in MENU}
    dimmed = {each.said for each in page.all("a", class_="dim")}
    assert dimmed == {names[each] for each in NOT_IN_USE}
    assert {lesson.page for lesson in LESSONS} == NOT_IN_USE


def test_the_menu_counts_what_there_is_and_says_which_server_and_release(app: App, site: FlaskClient) -> None:
    @app.task(name="leaf")
    def leaf() -> int:
        return 1

    @app.task(name="root")
    def root() -> object:
        return leaf()

    @app.task(name="bad", max_attempts=1)
    def bad() -> None:
        raise ValueError("no")

    app.work()
    app.wait(*[app.client.enqueue(name) for name in ("root", "root", "bad", "bad")])
    menu = {each.attrs["data-go"]: each.said for each in read(site, "").all("a") if "data-go" in each.attrs}
    assert {key: menu[key] for key in "wkea"} == {"w": "Workflows 2", "k": "Workers 1", "e": "Errors 1", "a": "Tasks 3"}
    footer = read(site, "").one("footer").said
    version = app.store.sql("SELECT current_setting('server_version')")[0][0].split()[0]
    assert footer.startswith(f"PG {version} · v")


def test_the_menu_counts_workflows_up_to_a_limit(app: App) -> None:
    a = app.task(name="a")(lambda: None)
    for _ in range(4):
        with app.client.workflow("flow"):
            a()
    assert app.client.insight.menu(2).workflows == 3
    assert app.client.insight.menu(MOST_COUNTED).workflows == 4


def test_whoever_asks_is_named(mount: Mount) -> None:
    named = mount(authorize=lambda request, right: "admin", who=lambda request: "ann <a@b>")
    assert read(named, "").one("span", title="ann <a@b>").said == "ann <a@b>"


@pytest.mark.parametrize(("path", "status"), [("jobs/x", 404), ("jobs?before=x", 422), ("audit", 403)])
def test_an_error_stands_in_the_shell(mount: Mount, path: str, status: int) -> None:
    site = mount(authorize=lambda request, right: "view")
    page = read(site, path, status)
    assert len(page.all("nav", class_="rail")) == 1
    assert len(page.all("h1")) == 1
    assert page.all("p", class_="banner down") == []


def test_an_error_stands_alone_for_whom_no_page_is_and_under_a_name_that_is_not_answered_to(app: App) -> None:
    app.client.enqueue("t", {}, queue="secret-queue")
    closed = mounted(app.client, authorize=lambda request, right: None)
    assert read(closed, "", 403).all("nav") == []
    hosted = mounted(app.client, authorize=lambda request, right: "admin", hosts=["ops.example"])
    assert "secret-queue" not in hosted.get("/ops/", base_url="http://evil.example").text


def test_without_the_database_the_shell_stands_under_a_banner_and_asks_again() -> None:
    site = mounted(Fairchild("postgresql://nobody@127.0.0.1:1/none"))
    page = read(site, "", 503)
    assert page.one("p", class_="banner down").said.startswith("The database does not answer")
    assert [each for each in page.all("a") if "data-go" in each.attrs]
    assert page.one("meta", http_equiv="refresh").attrs["content"] == "5"


def test_an_action_that_fails_says_so_where_it_was_asked_for(app: App, site: FlaskClient) -> None:
    app.task(name="t")(lambda: None)
    app.work()
    job = app.client.enqueue("t")
    app.wait(job)
    answer = send(site, f"jobs/{job.id}/cancel", "jobs?q=state:completed&did=retried&n=3")
    assert (answer.status_code, answer.location) == (303, "/ops/jobs?q=state%3Acompleted")
    page = read(site, answer.location)
    assert page.one("p", role="alert").said
    assert page.all("p", class_="toast", role="status") == []
    assert read(site, answer.location).all("p", role="alert") == []


def test_where_it_came_from_is_believed_of_pages_under_the_mount_alone(app: App, site: FlaskClient) -> None:
    app.task(name="t")(lambda: None)
    app.work()
    job = app.client.enqueue("t")
    app.wait(job)
    for origin in ("http://evil.example/ops/jobs", "http://localhost/elsewhere", "http://localhost//ops/", ""):
        headers = {**SAME_ORIGIN, "Referer": origin}
        assert site.post(f"/ops/jobs/{job.id}/cancel", headers=headers).status_code == 409, origin


def test_what_the_cookie_holds_is_text_and_nothing_else(site: FlaskClient) -> None:
    for value in ("PHNjcmlwdD4=", "////", "_w==", "%%%"):
        site.set_cookie("fairchild_said", value, domain="localhost")
        page = read(site, "jobs")
        assert all(each.attrs["src"].startswith("/ops/static/") for each in page.all("script"))


def test_what_was_done_from_a_list_leads_back_there_and_the_notice_to_what_changed(app: App, site: FlaskClient) -> None:
    app.client.enqueue("t", {}, queue="a/b")
    answer = send(site, "queues/a/b", "queues?x=1", action="pause")
    assert answer.location == "/ops/queues?x=1&did=paused&n=1&at=queue%2Fa%2Fb"
    page = read(site, answer.location)
    toast = page.one("p", class_="toast")
    assert toast.said == "1 queue paused Show queue"
    assert [each.attrs["href"] for each in page.all("a") if each.said == "Show queue"] == ["/ops/queues/a/b"]
    assert send(site, "queues/a/b", "queues/a/b", action="resume").location == "/ops/queues/a/b?did=resumed&n=1"
    for odd in ("at=nothing/x", "at=queue/", "at=job/%3Cscript%3E", "at=jobs"):
        read(site, f"queues?did=paused&n=1&{odd}")
