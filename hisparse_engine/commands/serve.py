"""``hisparse serve``: an OpenAI-compatible HTTP server over one engine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from hisparse_engine.commands.options import engine_options, split_settings

_PACKAGES = ("fastapi", "jinja2", "pydantic", "safetensors", "tokenizers", "torch", "uvicorn")


@click.command("serve")
@click.option(
    "--model",
    required=True,
    envvar="HISPARSE_MODEL",
    type=click.Path(path_type=Path),
    help="Checkpoint folder in Hugging Face format (safetensors).",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="HISPARSE_HOST",
    help="Address to listen on; other machines reach only those that are not loopback.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    envvar="HISPARSE_PORT",
    help="Port; 0 takes any free one.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    envvar="HISPARSE_API_KEY_FILE",
    help="File with API keys, one a line, readable by its owner.  [default: everybody may use the server]",
)
@click.option(
    "--served-model-name",
    envvar="HISPARSE_SERVED_MODEL_NAME",
    help="The model's name in the API.  [default: the checkpoint folder's]",
)
@click.option(
    "--max-running-requests",
    type=int,
    default=64,
    show_default=True,
    envvar="HISPARSE_MAX_RUNNING_REQUESTS",
    help="Requests that decode at the same time.",
)
@click.option(
    "--max-waiting-requests",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    envvar="HISPARSE_MAX_WAITING_REQUESTS",
    help="Requests that may wait for a place; further ones get 429.",
)
@click.option(
    "--default-chat-tokens",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    envvar="HISPARSE_DEFAULT_CHAT_TOKENS",
    help="Longest answer of a chat that names no max_completion_tokens; less where the pools hold less.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    envvar="HISPARSE_DRAIN_TIMEOUT",
    help="Seconds that running requests get to finish after SIGTERM.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(min=1),
    default=16 << 20,
    show_default=True,
    envvar="HISPARSE_MAX_BODY_BYTES",
    help="Largest body of a request; a larger one gets 413.",
)
@click.option(
    "--stats-dir",
    type=click.Path(path_type=Path),
    help="Folder for the stats page.  [default: $HISPARSE_STATS_DIR, else this user's folder in /dev/shm]",
)
@click.option(
    "--engine-name",
    default="serve",
    show_default=True,
    envvar="HISPARSE_ENGINE_NAME",
    help="Tells engines of one host apart.",
)
@engine_options
def command(
    model: Path,
    host: str,
    port: int,
    api_key_file: Path | None,
    served_model_name: str | None,
    max_running_requests: int,
    max_waiting_requests: int,
    default_chat_tokens: int,
    drain_timeout: float,
    max_body_bytes: int,
    stats_dir: Path | None,
    engine_name: str,
    **settings: Any,
) -> None:
    """Serve a DeepSeek-V3.2 or GLM-5 checkpoint over OpenAI's HTTP API.

    \b
    hisparse serve --model DIR
    hisparse serve --model DIR --host 0.0.0.0 --api-key-file keys.txt --host-tokens 1000000
    curl http://127.0.0.1:8000/v1/models

    Decode log lines go to standard error, metrics to /metrics. SIGTERM lets running requests finish.
    """
    _require_packages()
    from hisparse_engine.server.run import ServeOptions, serve

    engine_fields, tier_fields = split_settings(settings)
    options = ServeOptions(
        model=model,
        host=host,
        port=port,
        api_key_file=api_key_file,
        served_model_name=served_model_name,
        max_waiting_requests=max_waiting_requests,
        drain_timeout=drain_timeout,
        max_body_bytes=max_body_bytes,
        default_chat_tokens=default_chat_tokens,
        stats_dir=stats_dir,
        engine_name=engine_name,
    )
    serve(options, {**engine_fields, "max_running_requests": max_running_requests}, tier_fields)


def _require_packages() -> None:
    """Say at once what is missing, the engine's packages included: those are imported by another process."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"{', '.join(missing)} not installed: this command needs the engine and the server; "
            "run: pip install 'hisparse[engine,serve]'"
        )
