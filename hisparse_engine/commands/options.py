"""The settings as flags: each is an environment variable and a key of ``hisparse.yaml`` as well.

Flag, variable and key have one name. click knows whether a flag or a variable was given, and those go before the file;
types, ranges and what goes together are judged later and as a whole (``hisparse_engine.settings``), so that every
mistake is reported at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hisparse_engine.errors import ConfigError
from hisparse_engine.settings.given import Given, Problem, SettingPath, Value, flag_of

if TYPE_CHECKING:
    from hisparse_engine.models.config import ModelConfig
    from hisparse_engine.settings.file import SettingsFile
    from hisparse_engine.settings.resolve import Resolved

Command = Callable[..., Any]
_FILE = "hisparse_engine.settings_file"
_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class SettingSpec:
    """One setting as a person sees it; ``default`` is for people, the value is the model's (``settings.models``)."""

    path: SettingPath
    kind: Any
    default: str
    help: str

    @property
    def name(self) -> str:
        """The parameter's name, which is the key's."""
        return self.path[-1]

    @property
    def envvar(self) -> str:
        """The environment variable."""
        return f"HISPARSE_{self.name.upper()}"

    @property
    def flags(self) -> str:
        """The flag; with its opposite where it switches something."""
        flag = flag_of(self.path)
        return f"{flag}/--no-{flag[2:]}" if self.kind is click.BOOL else flag


class Setting(click.Option):
    """A flag whose value is judged later: what click cannot convert stays as it was given."""

    def __init__(self, *args: Any, spec: SettingSpec, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spec = spec

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert the text of a flag or of a variable; leave everything else to the validation."""
        try:
            return super().type_cast_value(ctx, value) if isinstance(value, str) else value
        except click.BadParameter:
            return value

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Say the default, which may be the command's own."""
        record = super().get_help_record(ctx)
        default = (ctx.default_map or {}).get(self.spec.name, self.spec.default)
        return record and (record[0], f"{record[1]}  [default: {default}]" if default != "" else record[1])


@dataclass(frozen=True)
class GivenSettings:
    """What file, environment and flags say. Nothing is judged before ``resolve``, which needs the engine's packages."""

    values: Given
    problems: Sequence[Problem] = field(default=())

    def resolve(self, *, model_required: bool = True, model: ModelConfig | None = None) -> Resolved:
        """Judge the whole; see :func:`hisparse_engine.settings.resolve.resolve`."""
        from hisparse_engine.settings.resolve import resolve

        return resolve(self.values, self.problems, model_required=model_required, model=model)


def setting_options(
    *sections: str, leave_out: Collection[str] = (), defaults: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Command], Command]:
    """Add ``--config`` and the settings of ``sections``; the command gets all that was given as ``given``.

    Settings named in ``leave_out`` get no flag; a file may have them all the same. ``defaults`` are words for what this
    command makes of a setting that nobody gave.
    """

    def decorate(command: Command) -> Command:
        chosen = [
            replace(spec, default=defaults.get(spec.name, spec.default))
            for spec in SETTINGS
            if spec.path[0] in sections and spec.name not in leave_out
        ]

        @functools.wraps(command)
        def with_given(**arguments: Any) -> Any:
            given = _gather(click.get_current_context())
            for spec in chosen:
                del arguments[spec.name]
            return command(given=given, **arguments)

        decorated: Command = with_given
        for spec in reversed(chosen):
            decorated = _option(spec)(decorated)
        return _config_option(decorated)

    return decorate


def _option(spec: SettingSpec) -> Callable[[Command], Command]:
    return click.option(
        spec.flags, cls=Setting, spec=spec, type=spec.kind, default=None, envvar=spec.envvar, help=spec.help
    )


def _read_config(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """Read the file before anything else is looked at: what is no YAML is the first thing to mend."""
    if path is not None:
        from hisparse_engine.settings.file import read_settings_file

        ctx.meta[_FILE] = read_settings_file(path)


_config_option = click.option(
    "--config",
    type=_PATH,
    envvar="HISPARSE_CONFIG",
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    metavar="FILE",
    help="YAML file with any of these settings, by section; variables and flags go before it.",
)


def _gather(ctx: click.Context) -> GivenSettings:
    """Return what the file says, under what click took from flags and variables, over the command's own defaults."""
    found: SettingsFile | None = ctx.meta.get(_FILE)
    values = dict(found.values) if found else {}
    for option in ctx.command.params:
        if isinstance(option, Setting):
            origin = _origin(ctx, option, values)
            if origin is not None:
                values[option.spec.path] = Value(ctx.params[option.spec.name], origin)
            elif found and option.spec.kind is _PATH:
                _from_its_folder(values, option.spec.path, found.path)
    return GivenSettings(values, found.problems if found else ())


def _origin(ctx: click.Context, option: Setting, in_file: Given) -> str | None:
    """Say where a value came from; None when it is the file's or nobody's."""
    match ctx.get_parameter_source(option.spec.name):
        case ParameterSource.COMMANDLINE:
            return flag_of(option.spec.path)
        case ParameterSource.ENVIRONMENT:
            return option.spec.envvar
        case ParameterSource.DEFAULT_MAP if option.spec.path not in in_file:
            return f"default of hisparse {ctx.command.name}"
    return None


def _from_its_folder(values: dict[SettingPath, Value], path: SettingPath, file: Path) -> None:
    """Take a relative path in a file as relative to the file, and ``~`` as the user's home."""
    value = values.get(path)
    if value is not None and isinstance(value.value, str) and value.value:
        try:
            values[path] = value._replace(value=file.parent / Path(value.value).expanduser())
        except RuntimeError:
            raise ConfigError(
                f"{value.origin}: {value.value!r}: no such user; write the whole path"
            ) from None


_INT, _FLOAT, _BOOL, _STR = click.INT, click.FLOAT, click.BOOL, click.STRING


def _spec(section: str, name: str, kind: Any, default: str, help_: str) -> SettingSpec:
    return SettingSpec((section, name), kind, default, help_)


SETTINGS = (
    SettingSpec(("model",), _PATH, "", "Checkpoint folder in Hugging Face format (safetensors); without one, demo makes a small one."),
    _spec("engine", "mode", click.Choice(["hierarchical", "resident"]), "hierarchical",
          "Full KV on the host and a hot buffer on the device, or every KV row on the device."),
    _spec("engine", "device", click.Choice(["cpu", "cuda"]), "cpu", "Where the model computes."),
    _spec("engine", "dtype", click.Choice(["auto", "float32", "bfloat16"]), "auto",
          "Of weights, activations and KV rows; auto: the checkpoint's on a CUDA device, float32 on the CPU."),
    _spec("engine", "kernels", click.Choice(["auto", "reference"]), "auto",
          "On a CUDA device: compiled kernels and CUDA graphs where they can be had, or plain PyTorch."),
    _spec("engine", "kv_cache_dtype", click.Choice(["auto", "float8"]), "auto",
          "Of KV rows in both tiers: as the model computes them, or float8 with a scale for every 128 numbers of a latent."),
    _spec("engine", "index_key_dtype", click.Choice(["model", "float8"]), "model",
          "Of index keys; float8 (one scale a key) halves them, and needs the compiled kernels."),
    _spec("engine", "max_running_requests", _INT, "64", "Requests that decode at the same time."),
    _spec("engine", "reserve", click.Choice(["worst-case", "quantile"]), "worst-case",
          "Slots promised at admission: all that a request may need, or what most recent answers needed."),
    _spec("engine", "reserve_quantile", _FLOAT, "0.9",
          "Share of recent answers that the quantile promise covers; beyond it requests may be retracted."),
    _spec("engine", "prefix_reuse", _BOOL, "true",
          "Share the rows of a prefix that another request has computed."),
    _spec("engine", "prefill_chunk_size", _INT, "512", "Prompt tokens computed in one step."),
    _spec("engine", "threads", _INT, "one a core", "CPU threads of the model."),
    _spec("engine", "decode_log_interval", _INT, "40", "Decode steps from one log line to the next."),
    _spec("engine", "log_format", click.Choice(["split", "legacy", "json"]), "split",
          "Both tiers, the old single figure, or one JSON object a line."),
    _spec("engine", "verify_every", _INT, "0",
          "Compare a sample of hot rows with their host rows every N decode steps; 0: never."),
    _spec("engine", "audit_every", _INT, "256",
          "Check that the pools' accounts add up every N steps, and when idle; 0: never."),
    _spec("hisparse", "device_buffer_size", _INT, "2 × top-k, or what a small device pool has room for",
          "Hot buffer of one request in tokens, at least the model's top-k."),
    _spec("hisparse", "device_tokens", _INT, "a hot buffer for each running request", "Capacity of the device pool in tokens."),
    _spec("hisparse", "host_tokens", _INT, "8 × the device pool; generate and demo: by their prompts", "Capacity of the host pool in tokens."),
    _spec("hisparse", "index_tokens", _INT, "as the pool that holds all KV rows",
          "Capacity for index keys on the device in tokens."),
    _spec("hisparse", "device_memory_gib", _FLOAT, "",
          "Device memory for the KV cache in GiB, beside the weights; in place of --device-tokens."),
    _spec("hisparse", "host_memory_gib", _FLOAT, "",
          "Main memory for the host pool in GiB; in place of --host-tokens."),
    _spec("server", "host", _STR, "127.0.0.1",
          "Address to listen on; other machines reach only those that are not loopback."),
    _spec("server", "port", _INT, "8000", "Port; 0 takes any free one."),
    _spec("server", "api_key_file", _PATH, "everybody may use the server",
          "File with API keys, one a line, readable by its owner."),
    _spec("server", "served_model_name", _STR, "the checkpoint folder's", "The model's name in the API."),
    _spec("server", "max_waiting_requests", _INT, "256",
          "Requests that may wait for a place; further ones get 429."),
    _spec("server", "default_chat_tokens", _INT, "4096",
          "Longest answer of a chat that names no max_completion_tokens; less where the pools hold less."),
    _spec("server", "drain_timeout", _FLOAT, "20", "Seconds that running requests get to finish after SIGTERM."),
    _spec("server", "max_body_bytes", _INT, "16777216", "Largest body of a request; a larger one gets 413."),
    _spec("metrics", "stats_dir", _PATH, "this user's folder in /dev/shm", "Folder for the stats page."),
    _spec("metrics", "engine_name", _STR, "the command's", "Tells engines of one host apart."),
)  # fmt: skip
"""Every setting there is, in the file's order."""
