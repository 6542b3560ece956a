from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.http_site import Site
from hisparse_metrics.live.assets import load_assets
from hisparse_metrics.live.columns import COLUMNS
from hisparse_metrics.live.vocabulary import stalled_seconds, vocabulary_bytes
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.web.messages import Request, Response
from hisparse_metrics.web.served import served_pages

ROOT = Path(__file__).parents[3]
STATIC = resources.files("hisparse_metrics.live").joinpath("static")
VENDORED = {
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""SHA-256 of uPlot 1.6.32's files as npm has them; ORIGIN.md beside them says how to update."""


def get(tmp_path: Path, path: str, encoding: str = "") -> Response:
    site = Site(served_pages(PageCollector(PageFolder(tmp_path))))
    return site.respond(Request("GET", path, accept_encoding=encoding))


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_files_are_those_of_the_package(name: str) -> None:
    body = STATIC.joinpath("vendor", "uplot", name).read_bytes()
    assert hashlib.sha256(body).hexdigest() == VENDORED[name]


def test_the_page_names_only_files_that_are_there(tmp_path: Path) -> None:
    page = get(tmp_path, "/").body.decode()
    names = re.findall(r'(?:src|href)="(live/[^"]+)"', page)
    assert len(names) == 6
    for name in names:
        assert get(tmp_path, f"/{name}").status == 200, name


def test_modules_import_only_files_that_are_there() -> None:
    files = load_assets().files
    for name, asset in files.items():
        if name.endswith(".js") and not name.startswith("vendor/"):
            for imported in re.findall(r'from "\./([^"]+)"', asset.body.decode()):
                assert imported in files, (name, imported)


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_inline(tmp_path: Path) -> None:
    texts = {name: asset.body.decode() for name, asset in load_assets().files.items()} | {
        "/": get(tmp_path, "/").body.decode()
    }
    for name, text in texts.items():
        if name.startswith("vendor/"):
            continue
        assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"@import|url\(|eval\(|new Function|innerHTML|\sstyle=|\son\w+=\"", text), name
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style", texts["/"])


def test_the_policy_allows_this_site_and_nothing_else(tmp_path: Path) -> None:
    headers = get(tmp_path, "/").headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert set(re.findall(r"'(\w[\w-]*)'", policy)) == {"none", "self"}
    assert not re.search(r"https?:|\*|data:|blob:", policy)
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


def test_files_may_be_kept_for_ever_and_the_page_not_at_all(tmp_path: Path) -> None:
    path = f"/live/{load_assets().version}/main.js"
    assert "immutable" in get(tmp_path, path).headers["Cache-Control"]
    assert get(tmp_path, "/").headers["Cache-Control"] == "no-store"
    assert get(tmp_path, "/live/0123456789abcdef/main.js").status == 404


def test_files_are_packed_on_request(tmp_path: Path) -> None:
    path = f"/live/{load_assets().version}/vendor/uplot/uPlot.iife.min.js"
    plain, packed = get(tmp_path, path), get(tmp_path, path, "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 2


@pytest.mark.parametrize(
    "name", ["index.html", "vendor/uplot/LICENSE", "vendor/uplot/ORIGIN.md", "..", "", "%2e%2e"]
)
def test_nothing_else_is_served(tmp_path: Path, name: str) -> None:
    assert get(tmp_path, f"/live/{load_assets().version}/{name}").status == 404


def test_the_vocabulary_is_about_columns_and_metrics_that_there_are() -> None:
    vocabulary = json.loads(vocabulary_bytes())
    lines = [line for group in vocabulary["groups"] for panel in group["panels"] for line in panel["lines"]]
    assert {line["column"] for line in lines} == set(COLUMNS), "every column is drawn, and no other"
    names = {metric.name for metric in catalogue.ALL}
    assert {name for line in lines for name in line["metrics"]} <= names
    assert all(re.fullmatch(r"#[0-9A-F]{6}", line["color"]) for line in lines)
    assert stalled_seconds() > 0


def test_a_wheel_has_every_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if "No module named hatchling" in done.stderr:
        pytest.skip("hatchling is not installed here")
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {
        f"hisparse_metrics/live/static/{name}" for name in load_assets().files if name != "vocabulary.json"
    }
    wanted = files | {f"hisparse_metrics/live/{name}" for name in ("vocabulary.json", "static/index.html")}
    assert wanted <= packed
    assert "hisparse_metrics/live/static/vendor/uplot/LICENSE" in packed
