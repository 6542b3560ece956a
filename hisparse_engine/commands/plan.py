"""``hisparse plan``: what a machine's memory holds of a model, before anything is loaded. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hisparse_engine.commands.options import GivenSettings, setting_options
from hisparse_engine.errors import CapacityError

_NOT_HERE = ("reserve", "reserve_quantile", "prefix_reuse", "threads", "decode_log_interval", "log_format",
             "verify_every", "audit_every", "device", "kernels", "device_tokens", "host_tokens", "index_tokens",
             "device_memory_gib")  # fmt: skip
_DEFAULTS = {"max_running_requests": "as many as fit", "device_buffer_size": "2 × top-k"}
_GIB = click.FloatRange(min=0, min_open=True, max=1 << 20)


@click.command("plan")
@click.option(
    "--gpu-memory-gib",
    type=_GIB,
    required=True,
    help="Memory of the GPU in GiB, all that the engine may use of it.",
)
@click.option(
    "--context",
    type=click.IntRange(min=1),
    help="Tokens of a request, prompt and answer together.  [default: 131072, or the model's positions]",
)
@click.option(
    "--weights-gib",
    type=click.FloatRange(min=0, max=1 << 20),
    help="Plan for so many GiB of weights instead of the checkpoint's: a rank's share, or another precision.",
)
@click.option(
    "--reserve-gib",
    type=click.FloatRange(min=0, max=1 << 20),
    default=1.5,
    show_default=True,
    help="Leave this to CUDA's context, compiled kernels and the allocator's slack.",
)
@click.option(
    "--png",
    type=click.Path(path_type=Path),
    help="Write a picture as well; needs matplotlib: pip install 'hisparse[report]'.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@setting_options("model", "engine", "hisparse", leave_out=_NOT_HERE, defaults=_DEFAULTS)
def command(
    given: GivenSettings,
    gpu_memory_gib: float,
    context: int | None,
    weights_gib: float | None,
    reserve_gib: float,
    png: Path | None,
    as_json: bool,
) -> None:
    """Work out the pools that hold the most requests, and show what takes which memory. Loads nothing.

    \b
    hisparse plan --model DIR --gpu-memory-gib 139 --host-memory-gib 1024 --context 131072
    hisparse plan --model DIR --gpu-memory-gib 139 --host-memory-gib 1024 --weights-gib 80 --png plan.png
    hisparse plan --config hisparse.yaml --gpu-memory-gib 80 --mode resident --json

    Reads config.json and the headers of the safetensors files, or config.json alone where there are no weights. Shows
    both modes' requests at --context and at other lengths, what bounds them, and the command to start with this plan.
    """
    from hisparse_engine.plan.choose import PlanOptions, choose

    options = PlanOptions(gpu_memory_gib, context, weights_gib, reserve_gib)
    resolved = given.resolve()
    try:
        chosen = choose(resolved, options)
    except CapacityError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"fits": False, "problem": str(error)}))
        raise click.exceptions.Exit(1) from None
    if png is not None:
        from hisparse_engine.plan.picture import save_picture

        save_picture(chosen.report, png)
        click.echo(f"wrote {png}", err=True)
    if as_json:
        click.echo(json.dumps(chosen.as_dict()))
    else:
        from hisparse_engine.plan.curve_text import print_plan

        print_plan(chosen.report, chosen.command, resident=chosen.resident)
