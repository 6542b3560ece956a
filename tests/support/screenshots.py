"""The pictures of the live page in docs/images, taken anew from a real demo.

python -m tests.support.screenshots [--seconds 120] [FOLDER]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.browser import chromium, opened

FOLDER = Path(__file__).parents[2] / "docs/images"
PICTURES = {
    "live-page-light": {"width": 1280, "height": 1180, "color_scheme": "light"},
    "live-page-dark": {"width": 1280, "height": 1180, "color_scheme": "dark"},
    "live-page-narrow": {"width": 400, "height": 1180, "color_scheme": "light"},
}
MAX_BYTES = 300_000


def main(arguments: list[str] | None = None) -> None:
    """Run the demo for a while, and take every picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.screenshots", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how much history to show (default: 120)")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with demo() as address, chromium() as browser:
        wait_for_history(browser, address, options.seconds)
        for name, look in PICTURES.items():
            path = options.folder / f"{name}.png"
            take(browser, address, path, look)
            print(path, path.stat().st_size)


@contextmanager
def demo() -> Iterator[str]:
    """Run ``hisparse demo`` on a free port; yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "hisparse_engine",
            "demo",
            "--listen",
            "127.0.0.1:0",
            "--stats-dir",
            folder,
        ]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            yield next(found[0] for line in process.stderr if (found := re.search(r"http://[\d.:]+", line)))
        finally:
            process.terminate()
            process.communicate(timeout=60)


def wait_for_history(browser: Browser, address: str, seconds: float) -> None:
    """Wait until there are so many seconds to draw."""
    enough = "(seconds) => fetch('api/v1/history').then((r) => r.json()).then((a) => a.time - a.rows.time[0] >= seconds)"
    with opened(browser, address) as watched:
        watched.page.wait_for_function(enough, arg=seconds, polling=1000, timeout=1000 * (seconds + 120))


def take(browser: Browser, address: str, path: Path, look: dict[str, object]) -> None:
    """Take one picture of the top of the page."""
    with opened(browser, address, **look) as watched:  # type: ignore[arg-type]
        expect(watched.page.locator("#charts canvas").first).to_be_visible()
        expect(watched.page.locator("#status")).to_have_text("Live")
        watched.page.screenshot(path=path)
        watched.assert_clean()
    assert path.stat().st_size < MAX_BYTES, f"{path} has more than {MAX_BYTES} bytes"


if __name__ == "__main__":
    main()
