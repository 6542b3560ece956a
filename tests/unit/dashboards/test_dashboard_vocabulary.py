"""One meaning, one colour, one threshold: the same on every panel and in the alerts."""

from __future__ import annotations

from typing import Any

from hisparse_dashboards import engine as engine_board
from hisparse_dashboards import layout, palette
from hisparse_dashboards import overview as overview_board
from hisparse_dashboards import sidecar as sidecar_board
from hisparse_dashboards.config import DEFAULT, Thresholds
from tests.support.dashboard_json import Json, data_panels

ON_THE_DEVICE = {"hits / lookups", "hits", "index keys", "swap-in / link", "swap-in / step"}
"""Legends of what is on the device or arrives there, beside those that say so."""
FROM_THE_HOST = {"misses", "rejected", "pending pages"}
"""Legends of what is on the host, must be fetched from it, or found no room there."""


def panel(board: Json, title: str) -> Json:
    return next(panel for panel in data_panels(board) if panel["title"] == title)


def line_colors(panel: Json) -> dict[str, str]:
    """Legend → fixed colour."""
    legends = {target["refId"]: target["legendFormat"] for target in panel["targets"]}
    return {
        legends[override["matcher"]["options"]]: property_["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
        for property_ in override["properties"]
        if property_["id"] == "color"
    }


def shade(panel: Json) -> dict[str, Any]:
    color: dict[str, Any] = panel["fieldConfig"]["defaults"].get("color", {})
    return color


def steps(panel: Json) -> list[float | None]:
    return [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]


def column(board: Json, title: str, name: str, property_id: str) -> Any:
    """Return one property of a table's column."""
    [found] = [
        each["value"]
        for override in panel(board, title)["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == name
        for each in override["properties"]
        if each["id"] == property_id
    ]
    return found


def test_device_and_host_have_the_same_color_everywhere(overview: Json, engine: Json) -> None:
    for board in (overview, engine):
        assert line_colors(panel(board, "Device tokens"))["device tokens"] == palette.DEVICE
        assert line_colors(panel(board, "Host tokens"))["host tokens"] == palette.HOST
        assert shade(panel(board, "Device token usage")) == {"mode": "shades", "fixedColor": palette.DEVICE}
        assert shade(panel(board, "Host token usage")) == {"mode": "shades", "fixedColor": palette.HOST}
    bandwidth = line_colors(panel(engine, "Swap-in and backup bandwidth"))
    assert bandwidth["host to device (swap-in)"] == palette.DEVICE
    assert bandwidth["device to host (backup, staging)"] == palette.HOST


def test_no_other_meaning_uses_the_color_of_device_or_host(board: Json) -> None:
    for each in data_panels(board):
        for legend, color in line_colors(each).items():
            if color == palette.DEVICE:
                assert "device" in legend or legend in ON_THE_DEVICE
            if color == palette.HOST:
                assert "host" in legend or legend in FROM_THE_HOST


def test_the_cache_of_vllm_is_never_drawn_as_a_device_pool(board: Json) -> None:
    for each in data_panels(board):
        exprs = [target["expr"] for target in each["targets"]]
        if each["type"] != "table" and any("device_cache_usage" in expr for expr in exprs):
            assert not any("device_token_usage" in expr for expr in exprs)
            assert shade(each)["fixedColor"] == palette.CACHE != palette.DEVICE
            assert "vLLM" in each["title"]
            assert "blocks" in each["description"]


def test_device_and_host_stand_side_by_side_at_the_same_scale(engine: Json) -> None:
    for what in ("tokens", "token usage"):
        device, host = panel(engine, f"Device {what}"), panel(engine, f"Host {what}")
        assert device["gridPos"]["y"] == host["gridPos"]["y"]
        assert device["gridPos"]["x"] < host["gridPos"]["x"]
        assert device["gridPos"]["w"] == host["gridPos"]["w"]
        assert device["fieldConfig"]["defaults"]["unit"] == host["fieldConfig"]["defaults"]["unit"]
    for tier in ("Device", "Host"):
        defaults = panel(engine, f"{tier} token usage")["fieldConfig"]["defaults"]
        assert (defaults["min"], defaults["max"]) == (0, 1)


def test_every_curve_has_a_color_of_the_vocabulary_or_one_for_each_series(board: Json) -> None:
    named = {value for value in vars(palette).values() if isinstance(value, str) and value.startswith("#")}
    for colors in (palette.QUANTILES, palette.OUTCOMES, palette.LINES):
        named |= set(colors.values())
    for each in data_panels(board):
        if each["type"] != "timeseries" or shade(each).get("mode") == "shades":
            continue
        for target in each["targets"]:
            has_color = target["legendFormat"] in line_colors(each)
            assert has_color or "{{" in target["legendFormat"], each["title"]
        assert set(line_colors(each).values()) <= named


def test_lines_of_one_panel_have_different_colors(board: Json) -> None:
    for each in data_panels(board):
        colors = list(line_colors(each).values())
        assert len(set(colors)) == len(colors), each["title"]


def test_thresholds_follow_the_config() -> None:
    limits = Thresholds(
        host_usage_warning=0.5, host_usage_critical=0.6, host_exhaustion_seconds=100, source_lag_bytes=7
    )
    config = DEFAULT.model_copy(update={"thresholds": limits, "link_bytes_per_second": 12e9})
    overview = layout.as_json(overview_board.build(config))
    assert steps(panel(overview, "Host token usage")) == [None, 0.5, 0.6]
    assert steps(panel(overview, "Fullest host pool")) == [None, 0.5, 0.6]
    assert steps(panel(overview, "Full first, and in how long")) == [None, 100, 200]
    host = column(overview, "Engines", "Host", "thresholds")
    assert [step["value"] for step in host["steps"]] == [None, 0.5, 0.6]
    engine = layout.as_json(engine_board.build(config))
    assert "* 1.2e+10" in panel(engine, "Swap-in and backup bandwidth")["targets"][2]["expr"]
    assert steps(panel(layout.as_json(sidecar_board.build(config)), "Bytes behind")) == [None, 7]


def test_less_time_is_worse(overview: Json) -> None:
    defaults = panel(overview, "Full first, and in how long")["fieldConfig"]["defaults"]
    colors = [step["color"] for step in defaults["thresholds"]["steps"]]
    assert colors == [palette.CRITICAL, palette.WARNING, palette.GOOD]


def test_null_is_a_gap_or_said_and_never_zero(board: Json) -> None:
    for each in data_panels(board):
        defaults = each["fieldConfig"]["defaults"]
        assert defaults["noValue"]
        assert defaults["noValue"] != "0"
        if each["type"] == "timeseries":
            assert defaults["custom"]["spanNulls"] is False
        elif each["type"] in {"stat", "table"}:
            assert all(target["instant"] and not target["range"] for target in each["targets"])
        for target in each["targets"]:
            # No alert that fires is a zero indeed: Prometheus has no series for an alert that does not fire.
            assert "or vector(0)" not in target["expr"] or each["title"] == "Alerts firing"


def test_a_heatmap_leaves_empty_what_was_never_observed(engine: Json) -> None:
    maps = [each for each in data_panels(engine) if each["type"] == "heatmap"]
    assert len(maps) == 3
    for each in maps:
        assert each["options"]["filterValues"] == {"le": 1e-9}
        assert [target["format"] for target in each["targets"]] == ["heatmap"]


def test_the_limit_of_the_links_is_a_dashed_line(engine: Json) -> None:
    bandwidth = panel(engine, "Swap-in and backup bandwidth")
    legends = {target["legendFormat"]: target["refId"] for target in bandwidth["targets"]}
    [dashes] = [
        each["value"]
        for override in bandwidth["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == legends["limit of the links"]
        for each in override["properties"]
        if each["id"] == "custom.lineStyle"
    ]
    assert dashes["fill"] == "dash"
