"""Keys: what a file may look like, and who gets through."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from hisparse_engine.errors import ConfigError
from hisparse_engine.server.api_keys import KeyCheck, read_keys


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_keys_are_lines(tmp_path: Path) -> None:
    assert read_keys(key_file(tmp_path, "# ours\nsk-one\n\n  sk-two \n")) == ["sk-one", "sk-two"]


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_file_of_its_owner_is_fine(tmp_path: Path, mode: int) -> None:
    assert read_keys(key_file(tmp_path, "sk", mode)) == ["sk"]


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("sk", 0o644, "chmod 600"), ("sk", 0o602, "chmod 600"), ("sk", 0o660, "chmod 600"),
        ("", 0o600, "no key"), ("# none\n", 0o600, "no key"), ("two words", 0o600, "spaces"), ("ключ", 0o600, "ASCII"),
    ],
)  # fmt: skip
def test_other_files_are_refused_with_the_remedy(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as raised:
        read_keys(key_file(tmp_path, text, mode))
    assert str(tmp_path / "keys") in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: No such file"):
        read_keys(tmp_path / "nowhere")


def ask(path: str, *headers: tuple[bytes, bytes]) -> tuple[int, dict[str, Any]]:
    """Return status and body of a request to an application behind two keys."""
    sent: list[Message] = []

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": list(headers), "method": "GET"}
    asyncio.run(KeyCheck(application, ["sk-one", "sk-two"])(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize("value", [b"Bearer sk-one", b"bearer sk-two", b"BEARER  sk-one "])
def test_who_has_a_key_gets_through(value: bytes) -> None:
    assert ask("/v1/models", (b"authorization", value))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [], [(b"authorization", b"")], [(b"authorization", b"sk-one")], [(b"authorization", b"Basic sk-one")],
        [(b"authorization", b"Bearer sk")], [(b"authorization", b"Bearer sk-one1")], [(b"authorization", b"Bearer \xff")],
        [(b"authorization", b"Bearer sk-one"), (b"authorization", b"Bearer no")],
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1", "/v1/models", "/v1/chat/completions"])
def test_others_get_401_in_the_shape_of_the_api(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    status, body = ask(path, *headers)
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/health", "/metrics", "/version", "/v1x"])
def test_probes_and_scrapers_need_no_key(path: str) -> None:
    assert ask(path)[0] == 200
