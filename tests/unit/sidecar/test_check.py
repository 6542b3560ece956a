from __future__ import annotations

from pathlib import Path

import pytest

from hisparse_metrics.sidecar.check import describe, last_record
from hisparse_metrics.sidecar.config import parse_config
from hisparse_metrics.web.errors import ExporterError
from tests.unit.sidecar.support import ACCESS, decode


def test_it_shows_files_and_the_last_record_of_each(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(decode(host_usage="0.77") + "\n" + ACCESS + "\n")
    (tmp_path / "b.log").write_text("nothing\n")
    sources = {
        "sglang_log": [str(tmp_path / "*.log"), str(tmp_path / "later*")],
        "stdin": True,
        "journald_unit": "s",
    }
    config = parse_config({"sources": sources, "stats_dir": str(tmp_path)})
    text = "\n".join(describe(config))
    assert f"{tmp_path}/*.log: 2 files" in text
    assert "host_token_usage=0.77" in text
    assert "no record in its last 256 KiB" in text
    assert "later*: no file yet" in text
    assert "standard input" in text
    assert "journald s" in text
    assert f"stats pages in {tmp_path}: 0" in text


def test_what_the_exporter_would_refuse_is_refused(tmp_path: Path) -> None:
    for web in ({"listen_address": "nowhere"}, {"config_file": str(tmp_path / "none.yaml")}):
        with pytest.raises(ExporterError):
            list(describe(parse_config({"sources": {"stdin": True}, "web": web})))


def test_the_last_record_is_the_last() -> None:
    record = last_record([decode(1).encode(), decode(2).encode(), ACCESS.encode()])
    assert record is not None
    assert record.values["host_tokens"] == 2
    assert last_record([]) is None
