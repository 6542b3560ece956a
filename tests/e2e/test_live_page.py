"""The live page in a real Chromium: it draws, goes on, survives restarts on both sides, and anybody can use it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.live.vocabulary import vocabulary_bytes
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.views import Snapshot
from hisparse_metrics.stats import EngineIdentity
from hisparse_metrics.web.options import WebOptions
from hisparse_metrics.web.served import Served
from tests.support.browser import Watched, chromium, opened
from tests.support.fake_engine import busy_step, idle_resident_step, stepping
from tests.support.server import free_port
from tests.unit.sidecar.support import batch, decode, fed, prefill

IDENTITY = EngineIdentity(engine_name="glm", model_name="glm-5", mode="hierarchical")
PANELS = [panel for group in json.loads(vocabulary_bytes())["groups"] for panel in group["panels"]]
EXPORTER = [sys.executable, "-m", "hisparse_engine", "exporter"]
HAS_COLORS = """([id, wanted]) => {
  const canvas = document.querySelector(`#chart-${id} canvas`);
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const found = new Set();
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] === 255) found.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
  }
  return wanted.every((color) => found.has(parseInt(color.slice(1), 16)));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@contextmanager
def exporting(stats_dir: Path) -> Iterator[str]:
    with Exporter(PageCollector(PageFolder(stats_dir)), port=0) as exporter:
        yield exporter.url


@contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        assert running.stdout.readline()
        yield running
    finally:
        running.kill()
        running.communicate(timeout=10)


def fake_engine(stats_dir: Path) -> list[str]:
    return [sys.executable, "-m", "tests.support.fake_engine", str(stats_dir), str(free_port())]


def text_of(page: Page, selector: str) -> str:
    return page.locator(selector).first.inner_text()


def wait_until_live(watched: Watched) -> None:
    expect(watched.page.locator("#status")).to_have_text("Live")
    expect(watched.page.locator("#charts canvas")).to_have_count(len(PANELS))


def values_now(page: Page) -> dict[str, str]:
    rows = page.locator("#values tr[data-column]").all()
    return {
        str(row.get_attribute("data-column")): row.locator("[data-name=Now]").inner_text() for row in rows
    }


def ask(address: str, query: str = "") -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/api/v1/history?{query}", timeout=10) as response:
        found: dict[str, Any] = json.load(response)
        return found


def wait_for_a_sample(address: str) -> None:
    """Wait until one more sample has been taken than now."""
    before = ask(address)["cursor"]
    while ask(address)["cursor"] == before:
        time.sleep(0.05)


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as response:
        families = list(parse_text(response.read().decode()))
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_it_draws_what_the_metrics_say_in_the_house_colours(browser: Browser, tmp_path: Path) -> None:
    with (
        Recorder(tmp_path, IDENTITY) as recorder,
        exporting(tmp_path) as address,
        opened(browser, address) as watched,
    ):
        wait_until_live(watched)
        for n in range(1, 4):  # rates need steps that lie some samples apart
            recorder.publish(busy_step(n, time.time()))
            wait_for_a_sample(address)
        said = scrape(address)
        page = watched.page
        expect(page.locator("#split .tier.host .big").nth(1)).to_have_text(
            f"{said['hisparse_host_tokens']:,.0f}"
        )
        now = values_now(page)
        for column, metric in {
            "device_tokens": "hisparse_device_tokens",
            "device_spare": "hisparse_device_tokens_spare",
            "device_capacity": "hisparse_device_token_capacity",
            "host_tokens": "hisparse_host_tokens",
            "host_capacity": "hisparse_host_token_capacity",
            "running": "hisparse_running_requests",
            "staging": "hisparse_staging_requests",
            "waiting": "hisparse_waiting_requests",
        }.items():
            assert now[column] == f"{said[metric]:,.0f}", column
        committed = said["hisparse_host_tokens"] + said["hisparse_host_tokens_reserved"]
        assert now["host_committed"] == f"{committed:,.0f}"
        assert now["device_usage"] == f"{100 * said['hisparse_device_token_usage']:.0f}%"
        [device, host] = page.locator("#split .tier").all()
        assert f"gpu token usage\n{said['hisparse_device_token_usage']:.2f}" in device.inner_text()
        spare = said["hisparse_device_tokens_spare"]
        assert f"{spare:,.0f} of it spare" in device.inner_text()
        share = (said["hisparse_device_tokens"] - spare) / said["hisparse_device_token_capacity"]
        assert now["device_usage_committed"] == f"{100 * share:.0f}%"
        assert f"cpu token usage\n{said['hisparse_host_token_usage']:.2f}" in host.inner_text()
        assert f"#cpu-token\n{said['hisparse_host_tokens']:,.0f}" in host.inner_text()
        for panel in PANELS:
            limits = [
                limit["color"]
                for limit in panel["thresholds"]
                if limit["from"] is not None and limit["color"]
            ]
            lines = [line["color"] for line in panel["lines"] if now[line["column"]] != "no data"]
            page.wait_for_function(HAS_COLORS, arg=[panel["id"], lines + limits])
        watched.assert_clean()


def test_it_goes_on_by_itself(browser: Browser, tmp_path: Path) -> None:
    with stepping(tmp_path, IDENTITY), exporting(tmp_path) as address, opened(browser, address) as watched:
        wait_until_live(watched)
        expect(watched.page.locator("tr[data-column=generation] [data-name=Now]")).to_have_text(
            re.compile(r"^\d")
        )
        expect(watched.page.locator("tr[data-column=hit_ratio] [data-name=Now]")).to_have_text("90%")
        expect(watched.page.locator("tr[data-column=step_p50] [data-name=Now]")).to_have_text(
            re.compile(" ms$")
        )
        before = text_of(watched.page, "#split .tier.host .big >> nth=1")
        expect(watched.page.locator("#split .tier.host .big").nth(1)).not_to_have_text(before)
        watched.assert_clean()


def test_an_engine_that_dies_is_dead_and_one_that_comes_back_goes_on(
    browser: Browser, tmp_path: Path
) -> None:
    with exporting(tmp_path) as address, opened(browser, address) as watched:
        page, state = watched.page, watched.page.locator("#split .state")
        expect(page.locator("#notice")).to_contain_text("No engine yet")
        with process(fake_engine(tmp_path)) as engine:
            expect(state).to_have_text("up")
            engine.send_signal(signal.SIGKILL)
            engine.wait(10)
            expect(state).to_have_text("down")
            expect(page.locator("#split")).to_have_attribute("data-old", "true")
            expect(page.locator("#split .facts")).to_contain_text("last values")
            expect(page.locator("tr[data-column=host_tokens] [data-name=Now]")).to_have_text("no data")
        with process(fake_engine(tmp_path)):
            expect(state).to_have_text("up")
            expect(page.locator("#split")).not_to_have_attribute("data-old", "true")
            expect(page.locator("#values .events")).to_contain_text("hisparse restarted")
            expect(page.locator("#values .events")).to_contain_text("hisparse went down")
            tokens = ask(address)["rows"]["columns"]["host_tokens"]["value"]
        assert re.search("x+_+x+", "".join("_" if value is None else "x" for value in tokens)), (
            "values, gap, values"
        )
        watched.assert_clean()


def test_an_exporter_that_is_gone_is_said_and_found_again(browser: Browser, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    command = [*EXPORTER, "--stats-dir", str(tmp_path), "--listen", listen]
    with stepping(tmp_path, IDENTITY), ExitStack() as first:
        first.enter_context(process(command))
        with opened(browser, f"http://{listen}") as watched:
            wait_until_live(watched)
            status = watched.page.locator("#status")
            generated = watched.page.locator("#split .tile", has_text="Generated")
            expect(generated).to_contain_text("tokens/s")
            first.close()
            expect(status).to_contain_text("does not answer; trying again")
            expect(generated).to_contain_text("tokens/s")  # what was seen stays
            with process(command):
                expect(status).to_have_text("Live")
                expect(watched.page.locator("#values .events")).to_contain_text("another exporter process")
            watched.forget_lost_connections()
            watched.assert_clean()


def many(stack: ExitStack, stats_dir: Path, count: int) -> None:
    for rank in range(count):
        recorder = stack.enter_context(Recorder(stats_dir, replace(IDENTITY, dp_rank=rank)))
        recorder.publish(busy_step(10 * rank + 1, time.time()))


def test_many_ranks_can_be_chosen_filtered_and_left(browser: Browser, tmp_path: Path) -> None:
    with ExitStack() as stack:
        many(stack, tmp_path, 40)
        address = stack.enter_context(exporting(tmp_path))
        watched = stack.enter_context(opened(browser, address))
        page = watched.page
        expect(page.locator("#split h2")).to_have_text("All engines")
        expect(page.locator("#ranks tbody tr")).to_have_count(12)
        page.get_by_role("button", name="Show all 40").click()
        expect(page.locator("#ranks tbody tr")).to_have_count(40)
        page.get_by_role("searchbox", name="Filter engines").fill("dp 39")
        expect(page.locator("#ranks tbody tr")).to_have_count(1)
        page.get_by_role("button", name="glm dp 39").click()
        expect(page.locator("#split h2")).to_have_text("glm dp 39")
        expect(page.locator("#rank")).to_have_value(re.compile("^[0-9a-f]{12}$"))
        expect(page.locator("#split .tier.host .big").nth(1)).to_have_text(
            f"{busy_step(391, 0).levels.host_tokens:,}"
        )
        expect(page.locator("#notice")).to_contain_text("no history of its own")
        page.locator("#rank").select_option("all")
        expect(page.locator("#split h2")).to_have_text("All engines")
        watched.assert_clean()


def test_a_log_s_charts_say_what_no_log_says(browser: Browser) -> None:
    collector = SidecarCollector(EngineLabels("glm"), 3600.0)
    state = fed(decode(host=35000, host_usage="0.50"), prefill(), time=time.time())
    collector.publish(Snapshot(state.views()))
    with Exporter(Served(collector, "a log", dict)) as exporter, opened(browser, exporter.url) as watched:
        wait_until_live(watched)
        page = watched.page
        expect(page.locator("#chart-hit-ratio .empty")).to_have_text("SGLang's log does not say this.")
        expect(page.locator("#split .tiles")).to_contain_text("not in the log")
        expect(page.locator("#chart-host-usage .empty")).to_be_hidden()
        expect(page.locator("#split .tier.host .big").first).to_have_text("0.50")
        state.take(batch(decode(host=49000, host_usage="0.70")), time.time())
        collector.publish(Snapshot(state.views()))
        expect(page.locator("#split .tier.host .big").first).to_have_text("0.70")
        watched.assert_clean()


def test_an_engine_without_a_host_pool_says_so(browser: Browser, tmp_path: Path) -> None:
    with (
        Recorder(tmp_path, IDENTITY) as recorder,
        exporting(tmp_path) as address,
        opened(browser, address) as watched,
    ):
        recorder.publish(idle_resident_step(time.time()))
        expect(watched.page.locator("#split .state")).to_have_text("idle")
        expect(watched.page.locator("#split .tier.host")).to_contain_text("this engine has no such pool")
        expect(watched.page.locator("#chart-host-usage .empty")).to_contain_text("it is not zero")
        watched.assert_clean()


@pytest.mark.parametrize("window", ["1h", "6h", "24h"])
def test_longer_windows_are_drawn(browser: Browser, tmp_path: Path, window: str) -> None:
    with stepping(tmp_path, IDENTITY), exporting(tmp_path) as address, opened(browser, address) as watched:
        wait_until_live(watched)
        watched.page.locator(f"#window input[value='{window}']").check(force=True)
        highest = watched.page.locator("tr[data-column=host_tokens] td").last
        expect(highest).to_have_text(re.compile(r"^[\d,]+$"))
        # Now is now, not the average of the minute that has begun.
        now = "['tr[data-column=host_tokens] [data-name=Now]', '.tier.host .figures:last-child .big']"
        [value, above] = watched.page.evaluate(f"{now}.map((s) => document.querySelector(s).textContent)")
        assert value == above
        expect(watched.page.locator("#charts canvas")).to_have_count(len(PANELS))
        watched.assert_clean()


def test_it_can_be_paused(browser: Browser, tmp_path: Path) -> None:
    with stepping(tmp_path, IDENTITY), exporting(tmp_path) as address, opened(browser, address) as watched:
        page = watched.page
        page.clock.install()
        page.reload()
        wait_until_live(watched)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#status")).to_contain_text("Paused at")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        shown = text_of(page, "#split")
        page.clock.run_for(60_000)
        assert (asked, text_of(page, "#split")) == ([], shown)
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#status")).to_have_text("Live")
        watched.assert_clean()


def test_everything_can_be_done_with_a_keyboard(browser: Browser, tmp_path: Path) -> None:
    with ExitStack() as stack:
        many(stack, tmp_path, 2)
        address = stack.enter_context(exporting(tmp_path))
        watched = stack.enter_context(opened(browser, address))
        wait_until_live(watched)
        page, keyboard = watched.page, watched.page.keyboard
        focused = (
            "document.activeElement.id || document.activeElement.value || document.activeElement.textContent"
        )
        keyboard.press("Tab")
        assert page.evaluate(focused) == "Skip to the charts"
        expect(page.locator(".skip")).to_be_in_viewport()
        order = []
        for _ in range(6):
            keyboard.press("Tab")
            order.append(page.evaluate(focused))
            outline = page.evaluate(
                "getComputedStyle(document.activeElement.matches('input') ? document.activeElement.nextSibling"
                " : document.activeElement).outlineStyle"
            )
            assert outline == "solid", f"focus is not visible on {order[-1]}"
        assert order == ["rank", "15m", "pause", "theme", "glm dp 1", "glm dp 0"]
        keyboard.press("Enter")
        expect(page.locator("#split h2")).to_have_text("glm dp 0")
        page.locator("#window input[value='15m']").focus()
        keyboard.press("ArrowRight")
        expect(page.locator("#window input[value='1h']")).to_be_checked()
        keyboard.press("ArrowLeft")
        plot = page.locator("#chart-host-tokens .plot")
        plot.focus()
        expect(plot).to_have_attribute("aria-label", re.compile("Host tokens: host tokens [0-9,]+"))
        keyboard.press("Home")
        expect(page.locator("#chart-host-tokens .at")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
        expect(plot).to_have_attribute("aria-label", re.compile(r"Host tokens at \d\d:\d\d:\d\d"))
        keyboard.press("Escape")
        expect(page.locator("#chart-host-tokens .at")).to_have_text("")
        watched.assert_clean()


def test_the_theme_is_the_system_s_until_one_is_chosen(browser: Browser, tmp_path: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with exporting(tmp_path) as address, opened(browser, address, color_scheme="dark") as watched:
        dark = watched.page.evaluate(background)
        button = watched.page.locator("#theme")
        button.click()
        expect(button).to_have_text("Theme: light")
        light = watched.page.evaluate(background)
        watched.page.reload()
        expect(button).to_have_text("Theme: light")
        assert watched.page.evaluate(background) == light != dark
        watched.assert_clean()


def test_motion_is_reduced_on_request(browser: Browser, tmp_path: Path) -> None:
    duration = "getComputedStyle(document.querySelector('.fill')).transitionDuration"
    with stepping(tmp_path, IDENTITY), exporting(tmp_path) as address:
        for wish, expected in (("reduce", "0s"), ("no-preference", "0.3s")):
            with opened(browser, address, reduced_motion=wish) as watched:
                wait_until_live(watched)
                assert watched.page.evaluate(duration) == expected


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)]
)
def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    browser: Browser, tmp_path: Path, scheme: str, width: int
) -> None:
    with ExitStack() as stack:
        many(stack, tmp_path, 14)
        name = "a-rather-long-name-of-an-engine-without-a-single-blank-in-it"
        Recorder(
            tmp_path, replace(IDENTITY, engine_name=name, model_name=2 * name)
        ).close()  # one that is dead
        address = stack.enter_context(exporting(tmp_path))
        watched = stack.enter_context(opened(browser, address, width=width, color_scheme=scheme))
        wait_until_live(watched)
        page = watched.page
        expect(page.locator("#ranks .state").first).to_contain_text("down")
        for summary in page.locator("#charts summary").all()[:2]:
            summary.click()
        assert watched.audit() == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#ranks .name").first.click()
        expect(page.locator("#split h2")).to_contain_text(name)
        assert watched.audit() == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        watched.assert_clean()


def test_it_works_behind_a_password(browser: Browser, tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    config = tmp_path / "web.yaml"
    config.write_text(json.dumps({"basic_auth_users": {"me": hashed}}))
    config.chmod(0o600)
    stats_dir = tmp_path / "stats"
    web = WebOptions(listen=(("127.0.0.1", 0),), config_file=config)
    with stepping(stats_dir, IDENTITY), Exporter(PageCollector(PageFolder(stats_dir)), web=web) as exporter:
        credentials = {"username": "me", "password": "secret"}
        with opened(browser, exporter.url, http_credentials=credentials) as watched:
            wait_until_live(watched)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(exporter.url)


def test_another_release_s_page_is_loaded_once(browser: Browser, tmp_path: Path) -> None:
    with stepping(tmp_path, IDENTITY), exporting(tmp_path) as address, opened(browser, address) as watched:
        wait_until_live(watched)
        loads: list[Page] = []
        watched.page.on("load", lambda page: loads.append(page))
        other = ask(address) | {"page": "another"}
        watched.page.route("**/api/v1/history*", lambda route: route.fulfill(json=other))
        expect(watched.page.locator("#status")).to_contain_text("another release: load the page again")
        assert len(loads) == 1
        watched.assert_clean()


def test_a_refusal_is_said_and_ends(browser: Browser, tmp_path: Path) -> None:
    with stepping(tmp_path, IDENTITY), exporting(tmp_path) as address, opened(browser, address) as watched:
        wait_until_live(watched)
        refuse = {"status": 429, "headers": {"Retry-After": "1"}, "body": "too many requests\n"}
        watched.page.route("**/api/v1/history*", lambda route: route.fulfill(**refuse))
        status = watched.page.locator("#status")
        expect(status).to_contain_text("The exporter says 429: too many requests; trying again.")
        watched.page.unroute("**/api/v1/history*")
        expect(status).to_have_text("Live")
        assert {"429" in text for text in watched.complaints} == {True}, (
            "what Chromium says of a refusal, no more"
        )
