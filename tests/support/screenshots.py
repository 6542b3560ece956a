"""The pictures of the live page in docs/images, taken anew from a real demo.

python -m tests.support.screenshots [--seconds 120] [FOLDER]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
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
        wait_for_history(address, options.seconds)
        for name, look in PICTURES.items():
            path = options.folder / f"{name}.png"
            take(browser, address, path, look)
            print(path, path.stat().st_size)


@contextmanager
def demo() -> Iterator[str]:
    """Run ``hisparse demo`` on a free port; yield its address."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "stats", Path(name) / "log"
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
        with log.open("w") as output:
            process = subprocess.Popen(command, stderr=output)
        try:
            while not (found := re.search(r"http://[\d.:]+(?=/)", log.read_text())):
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
            yield found[0]
        finally:
            process.terminate()
            process.wait(timeout=60)


def wait_for_history(address: str, seconds: float) -> None:
    """Wait until there are so many seconds to draw."""
    while True:
        with urllib.request.urlopen(f"{address}/api/v1/history", timeout=10) as response:
            answer = json.load(response)
        if answer["rows"]["time"] and answer["time"] - answer["rows"]["time"][0] >= seconds:
            return
        time.sleep(1)


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
