"""One meaning, one colour, one threshold: the same on every panel and in the alerts."""

from __future__ import annotations

from typing import Any

from hisparse_dashboards import layout, overview, palette
from hisparse_dashboards.config import DEFAULT, Thresholds
from tests.support.dashboard_json import Json, data_panels


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


def test_device_and_host_have_the_same_color_everywhere(board: Json) -> None:
    assert line_colors(panel(board, "Device tokens"))["device tokens"] == palette.DEVICE
    assert line_colors(panel(board, "Host tokens"))["host tokens"] == palette.HOST
    assert shade(panel(board, "Device token usage")) == {"mode": "shades", "fixedColor": palette.DEVICE}
    assert shade(panel(board, "Host token usage")) == {"mode": "shades", "fixedColor": palette.HOST}
    bandwidth = line_colors(panel(board, "Swap-in and backup bandwidth"))
    assert bandwidth == {
        "host to device (swap-in)": palette.DEVICE,
        "device to host (backup, staging)": palette.HOST,
    }


def test_no_other_meaning_uses_the_color_of_device_or_host(board: Json) -> None:
    for each in data_panels(board):
        for legend, color in line_colors(each).items():
            if color == palette.DEVICE:
                assert "device" in legend or legend == "hits / lookups"
            if color == palette.HOST:
                assert "host" in legend


def test_device_and_host_stand_side_by_side_at_the_same_scale(board: Json) -> None:
    for what in ("tokens", "token usage"):
        device, host = panel(board, f"Device {what}"), panel(board, f"Host {what}")
        assert device["gridPos"]["y"] == host["gridPos"]["y"]
        assert device["gridPos"]["x"] < host["gridPos"]["x"]
        assert device["gridPos"]["w"] == host["gridPos"]["w"]
        assert device["fieldConfig"]["defaults"]["unit"] == host["fieldConfig"]["defaults"]["unit"]
    for tier in ("Device", "Host"):
        defaults = panel(board, f"{tier} token usage")["fieldConfig"]["defaults"]
        assert (defaults["min"], defaults["max"]) == (0, 1)


def test_every_curve_has_a_color_of_the_vocabulary(board: Json) -> None:
    named = {value for value in vars(palette).values() if isinstance(value, str) and value.startswith("#")}
    named |= set(palette.QUANTILES.values())
    for each in data_panels(board):
        if each["type"] == "timeseries" and shade(each).get("mode") != "shades":
            assert len(line_colors(each)) == len(each["targets"]), each["title"]
            assert set(line_colors(each).values()) <= named


def test_lines_of_one_panel_have_different_colors(board: Json) -> None:
    for each in data_panels(board):
        colors = list(line_colors(each).values())
        assert len(set(colors)) == len(colors), each["title"]


def test_thresholds_follow_the_config() -> None:
    config = DEFAULT.model_copy(
        update={"thresholds": Thresholds(host_usage_warning=0.5, host_usage_critical=0.6)}
    )
    board = layout.as_json(overview.build(config))
    assert steps(panel(board, "Host token usage")) == [None, 0.5, 0.6]
    assert steps(panel(board, "Fullest host pool")) == [None, 0.5, 0.6]


def test_null_is_a_gap_or_no_data_and_never_zero(board: Json) -> None:
    for each in data_panels(board):
        defaults = each["fieldConfig"]["defaults"]
        assert defaults["noValue"] == "no data"
        if each["type"] == "timeseries":
            assert defaults["custom"]["spanNulls"] is False
        else:
            assert all(target["instant"] and not target["range"] for target in each["targets"])
        for target in each["targets"]:
            assert "or vector(0)" not in target["expr"]


def test_a_pool_that_does_not_exist_has_no_usage(board: Json) -> None:
    for tier in ("device", "host"):
        for title in (f"{tier.capitalize()} token usage", f"Fullest {tier} pool"):
            expr = panel(board, title)["targets"][0]["expr"]
            assert f"and (hisparse_{tier}_token_capacity{{" in expr
            assert "> 0)" in expr
