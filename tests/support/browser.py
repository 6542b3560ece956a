"""A real headless Chromium for tests, and a page in it whose every complaint is kept.

Chromium is Debian's. Where it is missing it is installed as root; otherwise the test is skipped, and the skip says why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from tests.support.npm import require_packages
from tests.support.programs import FETCH_TIMEOUT_S, ProgramUnavailableError, skip_or_raise

NAMES = ("chromium", "chromium-browser", "google-chrome")
WEB = Path(__file__).parents[1] / "web"
_APT = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
_WATCH_POLICY = """
  addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Watched:
    """A page, and what went wrong in it."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def assert_clean(self) -> None:
        """Check that the console has no error, no policy was violated, and nothing was asked of anybody else."""
        assert self.complaints == []
        assert self.foreign == []

    def forget_lost_connections(self) -> None:
        """Forget what Chromium itself writes about an exporter that is gone: no page can keep it from that."""
        self.complaints = [text for text in self.complaints if "net::ERR_" not in text]

    def watch(self) -> None:
        """Keep every complaint from now on."""
        self.page.add_init_script(_WATCH_POLICY)
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("request", self._note_foreign)

    def _note_foreign(self, request: Request) -> None:
        if not request.url.startswith((f"{self.address}/", "data:")):
            self.foreign.append(request.url)

    def audit(self) -> list[str]:
        """Return what axe finds wrong, a line each; nothing is left out of its rules."""
        self.page.evaluate(axe_source())
        found = self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)"
        )
        return [
            f"{rule['id']}: {node['target']} {json.dumps(node['failureSummary'])}"
            for rule in found
            for node in rule["nodes"]
        ]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium for the length of the block, or skip the test."""
    path = require_chromium()
    # Chromium refuses its sandbox to root, and asks nobody here for updates or metrics.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=[*sandbox, "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser, address: str, *, width: int = 1280, height: int = 900, **options: Any
) -> Iterator[Watched]:
    """Open ``address`` in a fresh profile; ``options`` are those of a browser context."""
    context: BrowserContext = browser.new_context(viewport={"width": width, "height": height}, **options)
    try:
        watched = Watched(context.new_page(), address.rstrip("/"))
        watched.page.set_default_timeout(30_000)
        watched.watch()
        watched.page.goto(f"{watched.address}/")
        yield watched
    finally:
        context.close()


def require_chromium() -> Path:
    """Return the path of Chromium, installing it where that can be done, or skip the test with the reason."""
    try:
        return _find_chromium()
    except ProgramUnavailableError as error:
        skip_or_raise(f"chromium is not available: {error}", error)


@cache
def _find_chromium() -> Path:
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ProgramUnavailableError(
            f"none of {', '.join(NAMES)} is on PATH; install Debian's package chromium"
        )
    for command in (["apt-get", "update"], _APT):
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    if done.returncode:
        last_words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProgramUnavailableError(f"`{' '.join(_APT)}` failed: {last_words}")
    return Path(shutil.which("chromium") or "/usr/bin/chromium")


@cache
def axe_source() -> str:
    """Return axe-core, out of npm's package, or skip the test with the reason."""
    return (require_packages(WEB) / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
