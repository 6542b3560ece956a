"""Every alert has its runbook, and what a runbook says is so: levels, durations, what hides what, queries, commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hisparse_dashboards import alertmanager, alerts
from hisparse_dashboards.config import DEFAULT, Config, Thresholds, seconds
from hisparse_dashboards.recording import every_engine, vllm
from hisparse_dashboards.rules import Alert
from hisparse_engine.cli import main
from hisparse_engine.config import EngineConfig
from hisparse_metrics.sidecar.config import SidecarConfig
from tests.support.dashboard_json import exposed_names, promql_blocks, selectors

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = alerts.all_alerts(DEFAULT)
KNOWN_SERIES = {rule.name for rule in every_engine(DEFAULT)} | exposed_names() | vllm.NAMES | {"up"}
HEADINGS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z.-]*[a-z]")
FLAGS_OF_OTHERS = {
    "SGLang": {"--hisparse-config", "--max-running-requests", "--disable-radix-cache", "--schedule-conservativeness",
               "--chunked-prefill-size", "--disaggregation-mode", "--watchdog-timeout", "--mem-fraction-static",
               "--decode-log-interval"},
    "vLLM": {"--kv-transfer-config", "--attention-config", "--max-num-seqs", "--max-num-batched-tokens",
             "--gpu-memory-utilization"},
    "py-spy": {"--pid"},
}  # fmt: skip
"""Whose flag it is must be said beside it."""
each_alert = pytest.mark.parametrize(
    "alert", ALERTS, ids=lambda alert: "-".join(filter(None, (alert.name, alert.severity, alert.engine)))
)
each_runbook = pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)


def runbook(name: str) -> str:
    return (RUNBOOKS / f"{name}.md").read_text()


def paragraph(text: str, opening: str) -> str:
    """Return the paragraph that begins so, as one line."""
    (found,) = re.findall(rf"^{opening} .+?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    return " ".join(str(found).split())


def section(text: str, heading: str) -> str:
    return text.split(f"\n{heading}\n")[1].split("\n## ")[0]


def in_words(duration: int) -> str:
    for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        if duration % length == 0:
            return f"{duration // length} {unit}" + "s" * (duration != length)
    raise AssertionError(duration)


def spelled(field: str, value: float) -> str:
    """Return how a runbook writes a threshold."""
    if field.endswith("_seconds"):
        return in_words(int(value))
    return f"{value:.12%}".rstrip("0%").rstrip(".") + " %" if 0 < value <= 1 else f"{value:,.12g}"


def says(text: str, number: str) -> bool:
    """Whether ``text`` has the number by itself, not as part of a longer one."""
    return re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d%]|[.,]\d)", " ".join(text.split())) is not None


def affected(field: str) -> Iterator[tuple[Alert, bool]]:
    """Yield every rule that another value of a threshold changes, and whether it is in the rule itself."""
    value = getattr(DEFAULT.thresholds, field)
    moved = DEFAULT.thresholds.model_copy(
        update={field: value + 1 if isinstance(value, int) else value * 1.01}
    )
    config = DEFAULT.model_copy(update={"thresholds": moved})
    recorded = {
        old.name for old, new in zip(every_engine(DEFAULT), every_engine(config), strict=True) if old != new
    }
    for old, new in zip(ALERTS, alerts.all_alerts(config), strict=True):
        if old != new or recorded & {selector.name for selector in selectors(old.expr)}:
            yield old, old != new


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {alert.name for alert in ALERTS}


@each_alert
def test_the_link_of_an_alert_leads_to_its_runbook(alert: Alert) -> None:
    url = alert.to_dict(DEFAULT.runbook_base)["annotations"]["runbook_url"]
    lines = (ROOT / url).read_text().splitlines()
    assert lines[0] == f"# {alert.name}"
    assert [line for line in lines if line.startswith("## ")] == HEADINGS


@each_runbook
def test_the_first_thing_to_do_stands_before_all_explanation(path: Path) -> None:
    text = path.read_text()
    assert text.index("\nSeverity: ") < text.index("\nFirst: ") < text.index("\n## Meaning")
    assert len(text.splitlines()) < 80, "nobody reads more at night"


@each_alert
def test_severity_and_hold_are_those_of_the_rule(alert: Alert) -> None:
    when = f"after {in_words(seconds(alert.hold))}" if seconds(alert.hold) else "at once"
    assert f"{alert.severity} {when}" in paragraph(runbook(alert.name), "Severity:")


@pytest.mark.parametrize("field", Thresholds.model_fields)
def test_a_threshold_that_an_alert_depends_on_is_stated_in_its_runbook(field: str) -> None:
    number = spelled(field, getattr(DEFAULT.thresholds, field))
    for alert, directly in affected(field):
        text = runbook(alert.name)
        assert says(paragraph(text, "Severity:") if directly else text, number), (alert.name, number)


def test_the_thresholds_that_alerts_depend_on_are_found() -> None:
    found = {field: {alert.name for alert, _ in affected(field)} for field in Thresholds.model_fields}
    assert found["host_usage_warning"] == {"HiSparseHostUsageHigh"}
    assert found["dead_log_seconds"] == {"HiSparseEngineDown", "HiSparseMetricsAbsent"}
    assert found["stalled_seconds"] == {"HiSparseEngineStalled"}


@each_alert
def test_every_window_of_a_rule_is_stated_in_its_runbook(alert: Alert) -> None:
    for window in re.findall(r"\[(\w+)\]", alert.expr):
        assert says(runbook(alert.name), in_words(seconds(window))), window


def test_other_settings_are_stated_where_they_matter() -> None:
    link = f"{DEFAULT.link_bytes_per_second / 1e9:g} GB/s"
    assert says(paragraph(runbook("HiSparseHotBufferThrashing"), "Severity:"), link)
    assert says(runbook("HiSparseHostExhaustionPredicted"), in_words(seconds(DEFAULT.prediction_window)))
    assert says(runbook("HiSparseEngineStalled"), in_words(seconds(vllm.STALLED_WINDOW)))
    assert f"every {EngineConfig().audit_every} steps" in runbook("HiSparseInvariantViolation")
    for name in ("HiSparseEngineStalled", "HiSparseSourceUnreadable"):
        assert f"{SidecarConfig().stale_after:g} s" in runbook(name)


def test_a_runbook_says_what_hides_its_alert_and_that_it_hides_others() -> None:
    for inhibition in alertmanager.inhibitions():
        cause = inhibition.cause[0].split('"')[1]
        assert "hides" in section(runbook(cause), "## Meaning")
        for effect in inhibition.effects:
            assert (
                cause in section(runbook(f"HiSparse{effect}"), "## Meaning") or cause == f"HiSparse{effect}"
            )


def test_what_is_never_hidden_is_said_to_be_so() -> None:
    hidden = {
        f"HiSparse{effect}" for inhibition in alertmanager.inhibitions() for effect in inhibition.effects
    }
    for name in {alert.name for alert in ALERTS} - hidden - {"HiSparseEngineDown"}:
        assert "No other alert hides it." in " ".join(runbook(name).split())


@each_runbook
def test_queries_name_only_series_that_exist(path: Path) -> None:
    exprs = promql_blocks(path.read_text())
    assert exprs, "a diagnosis needs queries"
    for expr in exprs:
        names = {selector.name for selector in selectors(expr)}
        assert names
        assert not names - KNOWN_SERIES


@each_runbook
def test_the_jobs_that_a_runbook_names_are_those_that_the_alert_watches(path: Path) -> None:
    for pattern in re.findall(r'job=~"([^"]*)"', path.read_text()):
        assert pattern == DEFAULT.job_pattern


@each_runbook
def test_every_flag_exists_and_is_said_to_be_of_its_program(path: Path) -> None:
    for item in re.split(r"\n\s*\n|\n\s*(?:-|\d+\.) ", path.read_text()):
        for flag in FLAG.findall(item):
            theirs = {program for program, flags in FLAGS_OF_OTHERS.items() if flag in flags}
            assert any(program in item for program in theirs) if theirs else flag in ALL_FLAGS, (flag, item)


@each_runbook
def test_every_command_of_ours_exists_with_its_flags(path: Path) -> None:
    text = path.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [*lines, *spans]:
        for words in re.findall(r"\bhisparse ([a-z][^|#`]*)", line):
            command, rest = resolve(words.split())
            assert command is not main, line
            assert set(FLAG.findall(" ".join(rest))) <= flags_of(command), line


@each_runbook
def test_settings_that_a_runbook_offers_exist(path: Path) -> None:
    for item in re.split(r"\n\s*\n|\n\s*- ", path.read_text()):
        if "alerts.md#thresholds" in item:
            names = set(re.findall(r"`([a-z_]+)`", item))
            assert names
            assert names <= {*Thresholds.model_fields, *Config.model_fields}


@each_runbook
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words name, and what follows it."""
    command: click.Command = main
    while words and isinstance(command, click.Group):
        below = command.get_command(click.Context(command), words[0])
        if below is None:
            break
        command, words = below, words[1:]
    return command, words


def flags_of(command: click.Command) -> set[str]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)}


def all_flags(command: click.Command) -> set[str]:
    found = flags_of(command)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= all_flags(below)
    return found


ALL_FLAGS = all_flags(main)
