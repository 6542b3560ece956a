"""``hisparse generate``: decode prompts once, print the result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from hisparse_engine.commands.options import GivenSettings, setting_options


@click.command("generate")
@click.option("--prompt", "prompts", multiple=True, help="Prompt text; repeat for a batch.")
@click.option(
    "--prompt-file",
    "prompt_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File with a prompt (UTF-8; - reads standard input); repeat for a batch.",
)
@click.option("--prompt-ids", multiple=True, help="Token ids such as 1,2,3; repeat for a batch.")
@click.option("--max-new-tokens", type=int, default=16, show_default=True, help="New tokens a prompt.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Nucleus sampling, in (0, 1].")
@click.option("--seed", type=int, default=0, show_default=True, help="Of each prompt's random stream.")
@click.option("--ignore-eos", is_flag=True, help="Do not stop at an end-of-sequence token.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, or a list for a batch.")
@setting_options("model", "engine", "hisparse")
def command(
    given: GivenSettings,
    prompts: tuple[str, ...],
    prompt_files: tuple[Path, ...],
    prompt_ids: tuple[str, ...],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    ignore_eos: bool,
    as_json: bool,
) -> None:
    """Decode prompts with a DeepSeek-V3.2 or GLM-5 checkpoint.

    \b
    hisparse generate --model DIR --prompt 'Once upon a time' --max-new-tokens 64
    hisparse generate --model DIR --prompt-file book.txt --device-buffer-size 4096 --json
    hisparse generate --model DIR --prompt-ids 1,2,3 --prompt-ids 4,5,6 --mode resident --json

    Results go to standard output, decode log lines and progress to standard error.
    """
    from hisparse_engine.generate import PromptSource, generate
    from hisparse_engine.request import SamplingParams

    params = SamplingParams(max_new_tokens, temperature, top_p, seed, ignore_eos)
    source = PromptSource(prompts, prompt_files, prompt_ids)
    resolved = given.resolve()
    results = generate(resolved.folder, source, params, resolved.engine_fields, resolved.tier_fields)
    if as_json:
        objects = [result.as_dict() for result in results]
        click.echo(json.dumps(objects[0] if len(objects) == 1 else objects))
        return
    for result in results:
        sys.stdout.write(
            (result.text if result.text is not None else ",".join(map(str, result.token_ids))) + "\n"
        )
