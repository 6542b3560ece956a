"""How ``hisparse serve`` lives and dies: clients that leave, signals, a dead engine, a dead front, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.chat_checkpoint import write_chat_checkpoint
from tests.support.server import free_port
from tests.support.serving import MODEL, ROOT, Serving, eventually, launch, serving

LONG = 3000
ABORTED = "hisparse_requests_total:aborted"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server for one request at a time, so that a place that is not given back shows."""
    arguments = ("--max-running-requests", "1", "--host-tokens", "8000")
    with serving(checkpoint, tmp_path_factory.mktemp("stats"), *arguments) as one:
        yield one


def complete(client: openai.OpenAI, **options: Any) -> Any:
    """Ask for an answer that nobody will see the end of, unless told otherwise."""
    return client.completions.create(
        **{"model": MODEL, "prompt": "the", "max_tokens": LONG, "extra_body": {"ignore_eos": True}} | options
    )


def begin(client: openai.OpenAI, **options: Any) -> Any:
    """Return a stream of which something has come."""
    stream = complete(client, stream=True, **options)
    next(iter(stream))
    return stream


def assert_freed(server: Serving, aborted_before: float) -> None:
    """The request ended as aborted, long before its end, and what it held is free for the next one."""
    eventually(lambda: server.metrics()[ABORTED] == aborted_before + 1, "nothing was aborted")
    values = server.metrics()
    assert values["hisparse_running_requests"] == values["hisparse_waiting_requests"] == 0
    assert values["hisparse_host_tokens"] == values["hisparse_host_tokens_reserved"] == 0
    assert values["hisparse_device_tokens"] == values["hisparse_index_tokens"] == 0
    with server.client() as client:
        assert complete(client, max_tokens=2).usage.completion_tokens == 2


def test_a_client_that_leaves_in_mid_stream_frees_its_place(server: Serving) -> None:
    before = server.metrics()
    with server.client() as client:
        begin(client).close()
    assert_freed(server, before[ABORTED])
    generated = (
        server.metrics()["hisparse_generation_tokens_total"] - before["hisparse_generation_tokens_total"]
    )
    assert generated < LONG / 2


def test_a_client_that_gives_up_waiting_frees_its_place(server: Serving) -> None:
    before = server.metrics()[ABORTED]
    with server.client(timeout=0.5) as client, pytest.raises(openai.APITimeoutError):
        complete(client)
    assert_freed(server, before)


def test_a_client_that_leaves_the_queue_is_not_run(server: Serving) -> None:
    with server.client() as client, server.client(timeout=0.5) as hasty:
        stream = begin(client)
        before = server.metrics()[ABORTED]
        with pytest.raises(openai.APITimeoutError):
            complete(hasty)
        complete(client, stream=True).close()  # it has begun, and has nothing to say yet
        eventually(lambda: server.metrics()[ABORTED] == before + 2, "they still wait")
        assert server.metrics()["hisparse_running_requests"] == 1
        stream.close()
    eventually(lambda: server.metrics()["hisparse_running_requests"] == 0, "the stream still runs")


def test_a_client_that_is_killed_frees_its_place(server: Serving) -> None:
    before = server.metrics()[ABORTED]
    code = (
        "import openai, sys\n"
        f"client = openai.OpenAI(base_url='{server.url}/v1', api_key='none')\n"
        f"stream = client.completions.create(model='{MODEL}', prompt='the', max_tokens={LONG}, stream=True,\n"
        "    extra_body={'ignore_eos': True})\n"
        "for chunk in stream: print('chunk', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "chunk\n"
        client.kill()
    assert_freed(server, before)


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_can_be_aborted_by_its_id(server: Serving, stream: bool) -> None:
    before = server.metrics()[ABORTED]
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            lambda: list(complete(client, stream=stream, extra_headers={"X-Request-Id": "mine"}))
        )
        eventually(lambda: server.metrics()["hisparse_running_requests"] == 1, "it never ran")
        assert delete(server, "mine") == {"id": "mine", "object": "request", "aborted": True}
        with pytest.raises(openai.APIError) as raised:
            answer.result()
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["code"] == "request_aborted"
    assert_freed(server, before)
    with pytest.raises(urllib.error.HTTPError) as unknown:
        delete(server, "mine")
    assert unknown.value.code == 404


def delete(server: Serving, answer_id: str) -> Any:
    request = urllib.request.Request(f"{server.url}/v1/requests/{answer_id}", method="DELETE")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_an_id_in_use_cannot_be_taken_again(server: Serving) -> None:
    named = {"extra_headers": {"X-Request-Id": "twice"}}
    with server.client() as client:
        stream = begin(client, **named)
        with pytest.raises(openai.BadRequestError, match="in use"):
            complete(client, **named)
        stream.close()
    eventually(lambda: server.metrics()["hisparse_running_requests"] == 0, "it still runs")


def test_no_engine_process_outlives_a_killed_front(server: Serving) -> None:
    with server.client() as client:
        begin(client)
        engine = server.engine_pid()
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not is_running(engine), "the engine process is an orphan")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_sigterm_lets_requests_finish_and_ends_those_that_do_not(checkpoint: Path, tmp_path: Path) -> None:
    with serving(checkpoint, tmp_path, "--drain-timeout", "3") as server, server.client() as client:
        long = begin(client)
        short = begin(client, max_tokens=30)
        engine = server.engine_pid()
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.get("/health")[1]["status"] == "draining", "nobody drains")
        assert server.get("/health")[0] == 503
        with pytest.raises(openai.InternalServerError) as refused:
            complete(client)
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"]
        assert [chunk.choices[0].finish_reason for chunk in short][-1] == "length"
        with pytest.raises(openai.APIError, match="shut down before") as aborted:
            list(long)
        assert isinstance(aborted.value.body, dict)
        assert aborted.value.body["code"] == "shutting_down"
        assert server.wait() == 0
        assert "pools empty." in server.errors[-1]
        assert not is_running(engine)
        assert not [line for line in server.errors if "Traceback" in line]


def test_a_dead_engine_ends_its_requests_and_the_server(checkpoint: Path, tmp_path: Path) -> None:
    with serving(checkpoint, tmp_path) as server, server.client() as client, ThreadPoolExecutor(1) as pool:
        stream = begin(client)
        whole = pool.submit(complete, client)
        eventually(lambda: server.metrics()["hisparse_running_requests"] == 2, "it never ran")
        os.kill(server.engine_pid(), signal.SIGKILL)
        with pytest.raises(openai.APIError, match="engine process ended"):
            list(stream)
        with pytest.raises(openai.InternalServerError) as raised:
            whole.result()
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["code"] == "engine_failed"
        assert server.wait() == 1
        assert "killed by signal 9" in server.errors[-1]
        assert "Traceback" not in "".join(server.errors)


def test_a_full_disk_under_the_log_and_a_second_signal(checkpoint: Path, tmp_path: Path) -> None:
    port = free_port()
    with Path("/dev/full").open("w") as full:
        arguments = ("--port", str(port), "--decode-log-interval", "1")
        process = launch(checkpoint, tmp_path, *arguments, stderr=full)
    server = Serving(process)
    server.url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: is_up(server), "it is not up")
        with server.client() as client:
            assert complete(client, max_tokens=20).usage.completion_tokens == 20
            stream = begin(client)
            process.send_signal(signal.SIGINT)  # has 20 s to finish
            eventually(lambda: server.get("/health")[1]["status"] == "draining", "nobody drains")
            began = time.monotonic()
            process.send_signal(signal.SIGINT)  # has not
            with pytest.raises(openai.APIError):
                list(stream)
        assert process.wait(60) == 0
        assert time.monotonic() - began < 15  # of the 20 it would have had
    finally:
        process.kill()
        process.wait()


def is_up(server: Serving) -> bool:
    assert server.process.poll() is None
    try:
        return server.get("/health")[0] == 200
    except OSError:
        return False


def test_a_signal_before_the_engine_is_up_ends_it_cleanly(checkpoint: Path, tmp_path: Path) -> None:
    port = free_port()
    process = launch(checkpoint, tmp_path, "--port", str(port))
    server = Serving(process)
    server.url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: is_loading(server), "nobody answers")
        assert server.get("/v1/models")[0] == 200
        assert server.stop() == 0
        assert "Stopped before the engine was up." in "".join(server.errors)
    finally:
        process.kill()
        process.wait()


def is_loading(server: Serving) -> bool:
    try:
        return server.get("/health") == (503, {"status": "loading", "open_requests": 0})
    except OSError:
        return False


def start_fails(*arguments: str) -> str:
    """Run a server that does not come up; return its one line, and hold it to be one."""
    command = [sys.executable, "-m", "hisparse_engine", "serve", "--port", "0", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_what_the_engine_cannot_use_is_said_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    stats = ("--stats-dir", str(tmp_path / "stats"))
    assert "device_buffer_size" in start_fails(
        "--model", str(checkpoint), "--device-buffer-size", "3", *stats
    )


def test_what_the_front_cannot_use_is_said_before_anything_is_loaded(
    checkpoint: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-x")
    keys.chmod(0o644)
    assert "chmod 600" in start_fails("--model", str(checkpoint), "--api-key-file", str(keys))
    taken = free_port_taken_by_us()
    with taken:
        port = taken.getsockname()[1]
        assert str(port) in start_fails("--model", str(checkpoint), "--port", str(port))


def free_port_taken_by_us() -> Any:
    import socket

    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


def test_an_open_address_without_a_key_is_warned_about(checkpoint: Path, tmp_path: Path) -> None:
    process = launch(checkpoint, tmp_path, "--host", "0.0.0.0")
    server = Serving(process)
    try:
        assert "--api-key-file" in server.wait_for("Warning:")
    finally:
        process.kill()
        process.wait()
