"""One browser, one server and one furnished database for all of the browser's tests."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from app.auth import Scope
from app.cli.demo import free_port
from embedded.processes import wait_for
from tests import databases
from tests.app import story
from tests.app.pages import scene
from tests.servers import Servers

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
]
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SEATS = {
    "compliance": ("acme-privacy", (Scope.DELETIONS_WRITE, Scope.DELETIONS_READ, Scope.AUDIT_READ)),
    "operator": ("operator", (Scope.DELETIONS_READ, Scope.RETRAINS_WRITE, Scope.POLICIES_WRITE, Scope.METRICS_READ)),
    "approver": ("approver", (Scope.DELETIONS_READ, Scope.POLICIES_APPROVE, Scope.AUDIT_READ)),
    "engineer": ("engineer", (Scope.DELETIONS_READ, Scope.AUDIT_READ)),
}
"""Each seat's client and scopes."""


FOCUSED = (
    "() => { const e = document.activeElement; return [(e.ariaLabel || e.textContent || '').trim(), e.name || ''] }"
)


@dataclass
class World:
    """A running service that is furnished, and how to look into its database."""

    url: str
    known: scene.Scene
    keys: dict[str, str]
    servers: Servers
    name: str
    folder: Path

    @contextmanager
    def inside(self) -> Iterator[None]:
        """With this process pointed at the service's database, to do what a worker would."""
        with pytest.MonkeyPatch.context() as patch, databases.use(self.servers, self.name, self.folder, patch):
            yield


@pytest.fixture(scope="session")
def world(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    name = databases.copy(servers, template)
    with pytest.MonkeyPatch.context() as patch, databases.use(servers, name, folder, patch):
        known = scene.furnish(usual=7)
        keys = {seat: story.key(client, *scopes) for seat, (client, scopes) in SEATS.items()}
        environment = dict(os.environ)
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--no-server-header"]
    with (folder / "api.log").open("w") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: answers(url), 30)
            yield World(url, known, keys, servers, name, folder)
        finally:
            process.terminate()
            process.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a page must not have done."""

    said: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.type}: {message.text}")

    def request(self, request: Request, url: str) -> None:
        if not request.url.startswith((url, "data:")):
            self.elsewhere.append(request.url)


class Person:
    """Somebody at a screen, signed in at a seat."""

    def __init__(self, world: World, context: BrowserContext) -> None:
        self.world, self.context, self.watch = world, context, Watch()
        context.on("console", self.watch.console)
        context.on("weberror", lambda error: self.watch.said.append(str(error.error)))
        context.on("request", lambda request: self.watch.request(request, world.url))
        self.page: Page = context.new_page()

    def sign_in(self, seat: str) -> "Person":
        self.page.goto(f"{self.world.url}/ui/sign-in")
        field = self.page.get_by_label("API key")
        field.fill(self.world.keys[seat])
        field.press("Enter")
        self.page.wait_for_url(f"{self.world.url}/")
        return self

    def open(self, path: str) -> Page:
        self.page.goto(self.world.url + path)
        return self.page

    def tab_to(self, label: str, most: int = 80) -> None:
        """With the keyboard alone to what is labelled so."""
        for _ in range(most):
            self.page.keyboard.press("Tab")
            words, name = self.page.evaluate(FOCUSED)
            if label == name or words.startswith(label):
                return
        raise AssertionError(f"the keyboard does not reach {label!r}")

    def shot(self, name: str, *, whole: bool = True) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=whole)


Enter = Callable[..., Person]


@pytest.fixture
def people(chromium: Browser, world: World) -> Iterator[Callable[..., Person]]:
    """A fresh browser for each; afterwards nothing was refused by the policy, failed, or was asked of anybody else."""
    met: list[Person] = []

    def meet(**options: Any) -> Person:
        met.append(Person(world, chromium.new_context(**options)))
        return met[-1]

    yield meet
    for each in met:
        each.context.close()
        assert each.watch.said == []
        assert each.watch.elsewhere == []


@pytest.fixture
def stranger(people: Callable[..., Person]) -> Person:
    """Nobody is signed in."""
    return people()


@pytest.fixture
def person(people: Callable[..., Person]) -> Enter:
    """Somebody who is signed in at a seat: `person("operator")`."""
    return lambda seat, **options: people(**options).sign_in(seat)
