"""The settings reference, generated from flags and models: ``python -m hisparse_engine.settings.docs [--check] [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from hisparse_engine.settings.reference import Entry, entries
from hisparse_metrics import generated_page

DEFAULT_PATH = Path("docs/configuration.md")

_INTRODUCTION = """# Configuration

Generated from the flags and models by `python -m hisparse_engine.settings.docs`; `--check` fails when it is stale.

Every setting of `hisparse serve`, `generate` and `demo` has one name: a key of a YAML file, an environment variable,
a flag. Flags go before variables, variables before the file, the file before the default.

```yaml
# hisparse serve --config hisparse.yaml      (or HISPARSE_CONFIG=hisparse.yaml)
model: /models/glm-5
engine:
  max_running_requests: 128
hisparse:
  host_memory_gib: 128      # → host_tokens, by the model's shapes
  device_memory_gib: 40     # → index keys for all of these tokens; hot buffers get the rest
server:
  host: 0.0.0.0
  api_key_file: keys.txt    # relative to this file
```

`hisparse config init` prints a file with every setting. A key without a value is as good as absent. A file may have
sections that a command does not use; they are checked all the same.

## What is checked, and when

All of it, before anything is loaded: unknown and doubled keys, types, ranges, and what does not go together. Every
mistake is reported at once, with its path, its origin (line, variable or flag) and the remedy. An empty variable is as
good as none.

`hisparse config check` does the same and no more: exit code 0 when the settings hold together, 2 when they do not,
`--json` for programs. With a model it reads `config.json`, loads no weights, needs no torch, and shows each setting with
its origin, everything that memory is taken for in tokens and bytes, how many requests of each `--context` run at the same
time when each is promised its worst case, and which resource is the first to run out. An engine prints the same table
when it starts. [`hisparse plan`](plan.md) goes the other way: from a machine's memory to the pools that hold the most.

## Memory budgets

| what | bytes a token | tokens | counts against |
| --- | --- | --- | --- |
| host pool | layers × row elements × bytes an element; in float8 layers × bytes a row | `host_tokens` | `host_memory_gib` |
| hot buffers (device pool) | as in the host pool | `device_tokens` | `device_memory_gib` |
| index keys | index groups × key elements × bytes an element; in float8 index groups × (key elements + 4) | `index_tokens` | `device_memory_gib` |
| residency by slot | index groups × 8 (12 without compiled kernels) | `device_tokens` | `device_memory_gib` |
| residency by token | index groups × 4 + 8 (without: index groups × 4) | up to 2 × `index_tokens` (without: once) | `device_memory_gib` |

A row has `kv_lora_rank + qk_rope_head_dim` elements, a key `index_head_dim`; an index group is a layer with an indexer of
its own and those that share its selection. A row in float8 has `kv_lora_rank + kv_lora_rank / 32 + 2 × qk_rope_head_dim`
bytes, rounded up to a multiple of 16: 656 for DeepSeek-V3.2 and GLM-5, where bfloat16 takes 1,152.

- `host_tokens` = `host_memory_gib` / bytes a token, rounded down.
- Of `device_memory_gib`, index keys and residency maps for as many tokens as the host pool holds (or `index_tokens`, where
  given) go first; `device_tokens` is what the rest holds. Where nothing says how large the host pool is, it gets eight
  times the device pool, and both come out of the budget together.
- In resident mode `device_memory_gib` holds rows and index keys of each token (with compiled kernels, 8 bytes by token
  more); there is no host pool and no map.
- Weights, what a step works with, and CUDA itself are beside `device_memory_gib`, not in it: [plan.md](plan.md). Without
  compiled kernels requests that share a prefix each have a map of their own, so maps may take more than is planned.
"""

_TITLES = {"": "The model", "engine": "engine: how it works", "hisparse": "hisparse: the two tiers",
           "server": "server: hisparse serve", "metrics": "metrics: the stats page"}  # fmt: skip


def render() -> str:
    """Return the whole reference as Markdown."""
    by_section = groupby(entries(), key=lambda entry: entry.path.rpartition(".")[0])
    return "\n".join([_INTRODUCTION, *(_table(section, found) for section, found in by_section)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the reference, or with ``--check`` compare it; return the exit status."""
    return generated_page.run(arguments, render(), DEFAULT_PATH, "hisparse_engine.settings.docs", __doc__)


def _table(section: str, found: Iterator[Entry]) -> str:
    rows = [
        "| key | flag | variable | accepts | default | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for entry in found:
        spec = entry.spec
        flags = ", ".join(f"`{flag}`" for flag in spec.flags.split("/"))
        default = f"`{spec.default}`" if entry.value is not None else spec.default or "none"
        rows.append(
            f"| `{entry.path}` | {flags} | `{spec.envvar}` | {entry.accepts} | {default} | {spec.help} |"
        )
    return "\n".join([f"## {_TITLES[section]}", "", *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
