"""What ``hisparse serve`` refuses, and how the official client tells: one exception class for each kind of mistake."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.support.chat_checkpoint import POSITIONS, write_chat_checkpoint
from tests.support.serving import MODEL, Serving, eventually, serving

KEY = "sk-a-key-for-tests"
BODY_LIMIT = 20_000
HOST_TOKENS = 600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("refusals")
    keys = folder / "keys"
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o600)
    arguments = (
        "--api-key-file", str(keys), "--max-body-bytes", str(BODY_LIMIT), "--host-tokens", str(HOST_TOKENS),
        "--max-running-requests", "2", "--max-waiting-requests", "1",
    )  # fmt: skip
    with serving(write_chat_checkpoint(folder / "checkpoint"), folder / "stats", *arguments) as one:
        yield one


@pytest.fixture
def client(server: Serving) -> Iterator[openai.OpenAI]:
    with server.client(api_key=KEY) as one:
        yield one


def complete(client: openai.OpenAI, **options: Any) -> Any:
    return client.completions.create(**{"model": MODEL, "prompt": "the", "max_tokens": 2} | options)


def error_of(error: openai.APIStatusError) -> dict[str, Any]:
    """Return the error object, which has all four fields of the API's shape."""
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    return error.body


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 2}, "n"),
        ({"logprobs": 9}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"logit_bias": {"5": 10}}, "logit_bias"),
        ({"prompt": [320]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [1] * 5000}, "prompt"),
        ({"stop": [""]}, "stop"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
    ],
)
def test_a_wrong_request_is_a_bad_request_error(client: openai.OpenAI, options: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete(client, **options)
    error = error_of(raised.value)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"].startswith(param)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"frequency_penalty": 0.5},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}
            ]
        },
        {"messages": []},
    ],
)
def test_a_chat_that_this_server_cannot_do_is_refused(client: openai.OpenAI, options: Any) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(
            **{"model": MODEL, "messages": [{"role": "user", "content": "a"}], "max_tokens": 2} | options
        )
    assert error_of(raised.value)["param"] in options


def test_too_long_a_sequence_is_refused_with_the_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete(client, max_tokens=POSITIONS)
    error = error_of(raised.value)
    assert error["code"] == "context_length_exceeded"
    assert str(POSITIONS) in error["message"]


def test_what_the_pools_can_never_hold_is_refused_with_numbers_and_knob(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete(client, max_tokens=HOST_TOKENS + 100)
    error = error_of(raised.value)
    assert error["code"] == "request_too_large"
    assert str(HOST_TOKENS) in error["message"]
    assert "--host-tokens" in error["message"]


def test_the_largest_that_fits_is_taken(client: openai.OpenAI) -> None:
    answer = complete(client, prompt=[5] * 595, max_tokens=6, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 6


def test_a_chat_without_a_limit_gets_what_fits(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "the"}], stop=["e", "t"]
    )
    assert answer.choices[0].finish_reason in {"stop", "length"}


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        complete(client, model="gpt-5")
    error = error_of(raised.value)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert MODEL in error["message"]


@pytest.mark.parametrize("key", ["sk-wrong", KEY[:-1], KEY + "x"])
def test_a_wrong_key_is_an_authentication_error(server: Serving, key: str) -> None:
    with server.client(api_key=key) as client, pytest.raises(openai.AuthenticationError) as raised:
        complete(client)
    assert error_of(raised.value)["code"] == "invalid_api_key"
    assert KEY not in str(raised.value)


def test_a_full_queue_is_a_rate_limit_error_that_says_when_to_come_back(
    server: Serving, client: openai.OpenAI
) -> None:
    long = {"stream": True, "max_tokens": 120, "extra_body": {"ignore_eos": True}}
    streams = [complete(client, **long) for _ in range(2)]  # both places are taken
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(complete, client, **long)  # waits for a place: its answer has begun
        eventually(lambda: server.metrics()["hisparse_waiting_requests"] == 1, "nobody waits")
        with pytest.raises(openai.RateLimitError) as raised:
            complete(client)
        streams.append(third.result())
        for stream in streams:
            assert sum(1 for _ in stream) > 0
    error = error_of(raised.value)
    assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
    assert "--max-waiting-requests" in error["message"]
    assert int(raised.value.response.headers["retry-after"]) >= 1


def test_the_client_comes_back_by_itself(server: Serving, client: openai.OpenAI) -> None:
    long = {"stream": True, "max_tokens": 120, "extra_body": {"ignore_eos": True}}
    streams = [complete(client, **long) for _ in range(3)]
    with server.client(api_key=KEY, max_retries=20) as patient, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(complete, patient)
        for stream in streams:
            list(stream)
        assert answer.result().usage.completion_tokens == 2


def raw(
    server: Serving, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, Any]]:
    """Send a request that the official client would not; return status and error."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, {"Authorization": f"Bearer {KEY}", **named})
    answer = connection.getresponse()
    content = json.loads(answer.read() or b"{}")
    connection.close()
    return answer.status, content.get("error", content)


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"null", b"\xff\xfe", b'{"model": NaN'])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_what_is_no_json_object_is_a_bad_request(server: Serving, path: str, body: bytes) -> None:
    status, error = raw(server, "POST", path, body, **JSON)
    assert (status, error["code"]) == (400, "invalid_json")


def test_a_body_that_is_too_large_is_refused_while_it_comes(server: Serving) -> None:
    status, error = raw(server, "POST", "/v1/completions", b" " * 5_000_000, **JSON)
    assert (status, error["code"]) == (413, "body_too_large")
    assert str(BODY_LIMIT) in error["message"]


def test_the_official_client_reads_the_refusal_of_a_large_body(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        complete(client, prompt="x" * 1_000_000)
    assert raised.value.status_code == 413


def test_a_body_in_chunks_has_the_same_limit(server: Serving) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = f"{BODY_LIMIT:x}\r\n".encode() + b" " * BODY_LIMIT + b"\r\n"
        connection.sendall(head.encode() + chunk * 3 + b"0\r\n\r\n")
        assert b" 413 " in connection.makefile("rb").readline()


def test_another_content_type_is_refused(server: Serving) -> None:
    status, error = raw(server, "POST", "/v1/completions", b"{}", Content_Type="text/plain")
    assert (status, error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/completions"), ("POST", "/health"), ("PUT", "/v1/models")]
)
def test_a_wrong_method_says_which_is_right(server: Serving, method: str, path: str) -> None:
    status, error = raw(server, method, path)
    assert (status, error["code"]) == (405, "method_not_allowed")
    assert "use " in error["message"]


@pytest.mark.parametrize("path", ["/", "/v1/embeddings", "/v1/completions/", "/docs", "/openapi.json"])
def test_an_unknown_endpoint_is_not_found(server: Serving, path: str) -> None:
    status, error = raw(server, "GET", path)
    assert (status, error["code"]) == (404, "not_found")


def test_an_id_that_is_no_id_is_refused(server: Serving) -> None:
    body = json.dumps({"model": MODEL, "prompt": "a"}).encode()
    status, error = raw(server, "POST", "/v1/completions", body, X_Request_Id="a b", **JSON)
    assert status == 400
    assert error["message"].startswith("X-Request-Id")


def test_probes_need_no_key(server: Serving) -> None:
    assert server.get("/health")[0] == 200
    assert server.metrics()["hisparse_engine_up"] == 1


def test_after_all_that_nothing_is_left_in_the_pools(server: Serving) -> None:
    eventually(lambda: server.metrics()["hisparse_host_tokens_reserved"] == 0, "slots are still reserved")
    assert server.get("/health") == (200, {"status": "ok", "open_requests": 0})
    assert not [line for line in server.errors if "Traceback" in line]
