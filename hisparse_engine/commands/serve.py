"""``hisparse serve``: an OpenAI-compatible HTTP server over one engine."""

from __future__ import annotations

from importlib.util import find_spec

import click

from hisparse_engine.commands.options import GivenSettings, setting_options

_PACKAGES = ("fastapi", "jinja2", "pydantic", "safetensors", "tokenizers", "torch", "uvicorn")


@click.command("serve")
@setting_options("model", "engine", "hisparse", "server", "metrics")
def command(given: GivenSettings) -> None:
    """Serve a DeepSeek-V3.2 or GLM-5 checkpoint over OpenAI's HTTP API.

    \b
    hisparse serve --model DIR
    hisparse serve --model DIR --host 0.0.0.0 --api-key-file keys.txt --host-memory-gib 64
    hisparse serve --config hisparse.yaml --port 8001
    curl http://127.0.0.1:8000/v1/models

    Decode log lines go to standard error, metrics to /metrics. SIGTERM lets running requests finish.
    """
    _require_packages()
    from hisparse_engine.server.run import ServeOptions, serve

    resolved = given.resolve()
    server, metrics = resolved.settings.server, resolved.settings.metrics
    options = ServeOptions(
        model=resolved.folder,
        host=server.host,
        port=server.port,
        api_key_file=server.api_key_file,
        served_model_name=server.served_model_name,
        max_waiting_requests=server.max_waiting_requests,
        drain_timeout=server.drain_timeout,
        max_body_bytes=server.max_body_bytes,
        default_chat_tokens=server.default_chat_tokens,
        stats_dir=metrics.stats_dir,
        engine_name=metrics.engine_name or "serve",
    )
    serve(options, resolved.engine_fields, resolved.tier_fields)


def _require_packages() -> None:
    """Say at once what is missing, the engine's packages included: those are imported by another process."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"{', '.join(missing)} not installed: this command needs the engine and the server; "
            "run: pip install 'hisparse[engine,serve]'"
        )
