from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter, ExporterError
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.web.listen import systemd_listeners
from hisparse_metrics.web.options import WebOptions
from tests.unit.web.support import get


def collector(folder: Path) -> PageCollector:
    return PageCollector(PageFolder(folder))


def test_several_addresses_serve_the_same(tmp_path: Path) -> None:
    web = WebOptions(listen=(("127.0.0.1", 0), ("127.0.0.2", 0)), telemetry_path="/m")
    with Exporter(collector(tmp_path), web=web) as exporter:
        assert len(set(exporter.urls)) == 2
        assert exporter.urls[1].startswith("http://127.0.0.2:")
        assert exporter.metrics_url == exporter.urls[0] + "/m"
        assert [get(f"{url}/m").status for url in exporter.urls] == [200, 200]


def test_one_bad_address_leaves_no_other_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
        web = WebOptions(listen=(("127.0.0.1", free), ("127.0.0.1", busy)))
        with pytest.raises(ExporterError, match="the port is in use"):
            Exporter(collector(tmp_path), web=web).start()
    socket.create_server(("127.0.0.1", free)).close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
    ],
)
def test_sockets_that_are_not_for_us_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ExporterError, match="systemd passed no sockets"):
        systemd_listeners(environ)
    assert environ == {}, "no child should take them for its own"
