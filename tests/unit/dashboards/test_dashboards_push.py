"""``hisparse dashboards push`` against a server that answers as Grafana's documentation says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from hisparse_dashboards import grafana_api
from hisparse_engine.cli import main
from tests.support.grafana_api import SILENCE, TOKEN, VIEWER, Answer, FakeGrafana
from tests.unit.web.support import Authority

ALL = {"hisparse-overview", "hisparse-engine", "hisparse-sidecar"}
FOLDERS, SAVE = "/api/folders", "/api/dashboards/db"


class Ran(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    with FakeGrafana() as fake:
        yield fake


@pytest.fixture(autouse=True)
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; what would have been waited is kept."""
    waited: list[float] = []
    monkeypatch.setattr(grafana_api.Grafana.__init__, "__defaults__", (None, 30.0, waited.append))
    return waited


def push(url: str, token: Path, *options: object) -> Ran:
    arguments = ["dashboards", "push", "--url", url, "--token-file", str(token), *map(str, options)]
    result = CliRunner().invoke(main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert TOKEN not in result.output
    assert "Traceback" not in result.output
    return Ran(result.exit_code, result.stdout, result.stderr)


def one_line(ran: Ran) -> str:
    """Return the complaint of a failed push."""
    assert ran.code == 1
    [line] = ran.stderr.strip().splitlines()
    return line


# --- it works ---


def test_all_dashboards_land_in_a_new_folder(grafana: FakeGrafana, token: Path) -> None:
    ran = push(grafana.url, token)
    assert ran.code == 0, ran
    assert grafana.folders == {"folder-1": "HiSparse"}
    assert set(grafana.dashboards) == ALL
    assert {saved["folderUid"] for saved in grafana.dashboards.values()} == {"folder-1"}
    assert ran.stdout.splitlines()[0] == "folder HiSparse: created (folder-1)"
    assert f"HiSparse Engine: saved, version 1, {grafana.url}/d/hisparse-engine/hisparse-engine" in ran.stdout


def test_a_second_push_replaces_and_makes_nothing_twice(grafana: FakeGrafana, token: Path) -> None:
    push(grafana.url, token)
    ran = push(grafana.url, token)
    assert ran.code == 0
    assert "folder HiSparse: found (folder-1)" in ran.stdout
    assert list(grafana.folders.values()) == ["HiSparse"]
    assert {saved["version"] for saved in grafana.dashboards.values()} == {2}


def test_what_is_saved_is_what_is_committed(grafana: FakeGrafana, token: Path) -> None:
    from tests.support.dashboard_json import committed

    push(grafana.url, token)
    for board in committed():
        assert grafana.dashboards[board["uid"]]["dashboard"] == {**board, "id": None}


def test_a_configuration_and_another_folder_are_used(
    grafana: FakeGrafana, token: Path, tmp_path: Path
) -> None:
    config = tmp_path / "monitoring.yaml"
    config.write_text("cluster_label: cluster\n")
    assert push(grafana.url, token, "--folder", "Inference", "--config", config).code == 0
    assert list(grafana.folders.values()) == ["Inference"]
    names = [v["name"] for v in grafana.dashboards["hisparse-engine"]["dashboard"]["templating"]["list"]]
    assert names[:2] == ["datasource", "cluster"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_sub_path_is_kept(token: Path, slash: str) -> None:
    with FakeGrafana(prefix="/tools/grafana") as grafana:
        ran = push(grafana.url + slash, token)
        assert ran.code == 0, ran
        assert f"{grafana.url}/d/hisparse-overview/hisparse-overview" in ran.stdout
        assert "/tools/grafana/tools/grafana" not in ran.stdout


def test_a_folder_on_a_later_page_is_found(grafana: FakeGrafana, token: Path) -> None:
    grafana.folders.update({f"f{n}": f"Folder {n}" for n in range(1500)} | {"mine": "HiSparse"})
    assert "folder HiSparse: found (mine)" in push(grafana.url, token).stdout
    assert grafana.count("GET", FOLDERS) == 2


def test_tls_with_an_authority_of_its_own(token: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with FakeGrafana(certificate=authority.issue("grafana")) as grafana:
        assert push(grafana.url, token, "--ca-file", authority.certificate).code == 0
        refused = one_line(push(grafana.url, token))
    assert "is not trusted" in refused
    assert "--ca-file" in refused


def test_as_a_process_the_token_is_neither_in_the_arguments_nor_in_the_output(
    grafana: FakeGrafana, token: Path
) -> None:
    command = [sys.executable, "-m", "hisparse_engine", "dashboards", "push", "--url", grafana.url]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HISPARSE_GRAFANA_TOKEN_FILE": str(token),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr + " ".join(command)
    assert set(grafana.dashboards) == ALL


# --- refusals ---


def test_a_wrong_token_is_said_once(grafana: FakeGrafana, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("glsa_old")
    line = one_line(push(grafana.url, path))
    assert "401" in line
    assert "the token is not accepted" in line
    assert len(grafana.requests) == 1


def test_a_token_that_may_only_look_is_told_what_it_lacks(grafana: FakeGrafana, tmp_path: Path) -> None:
    path = tmp_path / "viewer"
    path.write_text(VIEWER)
    line = one_line(push(grafana.url, path))
    assert "403" in line
    assert "role Editor" in line
    assert grafana.dashboards == {}


def test_a_wrong_sub_path_is_a_404(grafana: FakeGrafana, token: Path) -> None:
    assert "is the sub-path of --url right?" in one_line(push(f"{grafana.url}/elsewhere", token))


def test_a_page_that_is_not_the_api_is_recognised(grafana: FakeGrafana, token: Path) -> None:
    grafana.before = lambda *_: Answer(200, "<html>log in</html>")
    assert "text/html, not with Grafana's API" in one_line(push(grafana.url, token))


def test_a_redirect_is_not_followed_and_the_token_stays(grafana: FakeGrafana, token: Path) -> None:
    with FakeGrafana() as elsewhere:
        grafana.before = lambda *_: Answer(302, {}, {"Location": f"{elsewhere.url}/login"})
        line = one_line(push(grafana.url, token))
        assert f"redirects to {elsewhere.url}/login; give that address" in line
        assert elsewhere.requests == []


def test_one_dashboard_that_cannot_be_saved_does_not_stop_the_others(
    grafana: FakeGrafana, token: Path
) -> None:
    grafana.provisioned.add("hisparse-overview")
    ran = push(grafana.url, token)
    assert ran.code == 1
    assert "HiSparse Overview: not saved: this Grafana provisions hisparse-overview from a file" in ran.stdout
    assert set(grafana.dashboards) == ALL - {"hisparse-overview"}
    assert "1 of 3 dashboards were not saved" in ran.stderr


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("name-exists", "another dashboard of that title is in folder HiSparse"),
        ("version-mismatch", "run the push again"),
        ("plugin-dashboard", "belongs to a plugin"),
        ("other", "Grafana answers 412 (no)"),
    ],
)
def test_a_conflict_is_explained(grafana: FakeGrafana, token: Path, status: str, advice: str) -> None:
    conflict = Answer(412, {"status": status, "message": "no"})
    grafana.before = lambda method, path, n: conflict if (path, n) == (SAVE, 1) else None
    ran = push(grafana.url, token)
    assert ran.code == 1
    assert advice in ran.stdout
    assert grafana.count("POST", SAVE) == 3, "a conflict is not tried again"


# --- trouble on the way ---


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_grafana_is_asked_again(
    grafana: FakeGrafana, token: Path, delays: list[float], status: int
) -> None:
    busy = Answer(status, {"message": "busy"})
    grafana.before = lambda _, path, n: busy if path == SAVE and n < 3 else None
    assert push(grafana.url, token).code == 0
    assert delays == [1, 2]
    assert {saved["version"] for saved in grafana.dashboards.values()} == {1}


def test_it_waits_as_long_as_grafana_asks(grafana: FakeGrafana, token: Path, delays: list[float]) -> None:
    busy = Answer(429, {}, {"Retry-After": "7"})
    grafana.before = lambda method, path, n: busy if (method, path, n) == ("GET", FOLDERS, 1) else None
    assert push(grafana.url, token).code == 0
    assert delays == [7]


def test_it_gives_up_after_some_tries(grafana: FakeGrafana, token: Path, delays: list[float]) -> None:
    grafana.before = lambda *_: Answer(503, {"message": "database is locked"})
    assert "answers 503 (database is locked)" in one_line(push(grafana.url, token))
    assert len(grafana.requests) == grafana_api.ATTEMPTS
    assert delays == [1, 2, 4]


def test_a_lost_connection_is_tried_again(grafana: FakeGrafana, token: Path) -> None:
    grafana.before = lambda _, path, n: SILENCE if path == SAVE and n == 1 else None
    assert push(grafana.url, token).code == 0
    assert set(grafana.dashboards) == ALL


def test_a_folder_is_never_created_twice(grafana: FakeGrafana, token: Path) -> None:
    """The folder was made and the answer lost: it is looked for again, not made again."""

    def lost(method: str, path: str, _: int) -> Answer | None:
        if (method, path) != ("POST", FOLDERS):
            return None
        grafana._create_folder("HiSparse")
        return SILENCE

    grafana.before = lost
    ran = push(grafana.url, token)
    assert ran.code == 0, ran
    assert grafana.count("POST", FOLDERS) == 1
    assert list(grafana.folders.values()) == ["HiSparse"]


def test_a_folder_that_somebody_else_made_meanwhile_is_used(grafana: FakeGrafana, token: Path) -> None:
    def raced(method: str, path: str, _: int) -> Answer | None:
        if (method, path) == ("POST", FOLDERS):
            grafana.folders["theirs"] = "HiSparse"
        return None

    grafana.before = raced
    assert push(grafana.url, token).code == 0
    assert {saved["folderUid"] for saved in grafana.dashboards.values()} == {"theirs"}


def test_a_folder_whose_creation_fails_is_not_tried_again(grafana: FakeGrafana, token: Path) -> None:
    grafana.before = lambda method, path, _: SILENCE if (method, path) == ("POST", FOLDERS) else None
    assert "cannot reach" in one_line(push(grafana.url, token))
    assert grafana.count("POST", FOLDERS) == 1


def test_nobody_listens(token: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert "Connection refused; is it the right address" in one_line(push(url, token))


def test_a_grafana_that_never_answers_is_given_up(token: Path, delays: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert "did not answer within 0.1 s" in one_line(push(url, token, "--timeout", "0.1"))
    assert len(delays) == grafana_api.ATTEMPTS - 1


def test_plain_text_where_tls_was_expected(grafana: FakeGrafana, token: Path, delays: list[float]) -> None:
    line = one_line(push(grafana.url.replace("http:", "https:"), token))
    assert "does not speak TLS as expected" in line
    assert delays == [], "the next try would find the same"


# --- what a person gives ---


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("grafana.example", "is not the address of a Grafana"),
        ("ftp://grafana.example", "is not the address of a Grafana"),
        ("https://grafana.example:port", "is not the address of a Grafana"),
        ("https://grafana.example/?orgId=1", "is not the address of a Grafana"),
        ("https://admin:secret@grafana.example", "leave it out and use --token-file"),
    ],
)
def test_an_address_that_is_none_is_refused(token: Path, url: str, message: str) -> None:
    line = one_line(push(url, token))
    assert message in line
    assert "secret" not in line


@pytest.mark.parametrize("content", ["", "two words", "glsa_a\nglsa_b", "glsa_ü"])
def test_a_file_without_one_token_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    line = one_line(push("http://127.0.0.1:1", path))
    assert f"{path} must hold one token" in line
    assert "glsa_a" not in line


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    assert "cannot read the token file" in one_line(push("http://127.0.0.1:1", tmp_path / "none"))


def test_a_useless_ca_file_is_named(token: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (empty, tmp_path / "none.pem"):
        assert f"cannot use --ca-file {path}" in one_line(
            push("https://127.0.0.1:1", token, "--ca-file", path)
        )
