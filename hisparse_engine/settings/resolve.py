"""Settings against a model: everything that is wrong at once, else the capacities that they come to.

Reads the checkpoint's ``config.json`` and nothing else of it; needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hisparse_engine.config import HiSparseConfig
from hisparse_engine.errors import CheckpointError, ConfigError
from hisparse_engine.layout import KVLayout
from hisparse_engine.memory_plan import MemoryPlan
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.hf_config import read_config
from hisparse_engine.plan.assemble import blueprint_of
from hisparse_engine.settings.budgets import contradictions, fill
from hisparse_engine.settings.given import Given, Problem, SettingPath, SettingsError
from hisparse_engine.settings.models import Settings
from hisparse_engine.settings.validate import in_order, validate


@dataclass(frozen=True)
class Resolved:
    """Settings that hold together. ``model`` and ``plan`` are None when no checkpoint is named."""

    settings: Settings
    given: Given
    tiers: HiSparseConfig
    model: ModelConfig | None = None
    plan: MemoryPlan | None = None

    @property
    def folder(self) -> Path:
        """The checkpoint's folder, where one was required."""
        assert self.settings.model is not None
        return self.settings.model

    @property
    def engine_fields(self) -> dict[str, Any]:
        """What was said of the engine, as fields of ``EngineConfig`` that JSON can carry."""
        return self.settings.engine.model_dump(exclude_unset=True)

    @property
    def tier_fields(self) -> dict[str, Any]:
        """The tiers, budgets turned into tokens, as fields of ``HiSparseConfig``."""
        return self.tiers.model_dump()


def resolve(
    given: Given,
    problems: Sequence[Problem] = (),
    *,
    model_required: bool = True,
    model: ModelConfig | None = None,
) -> Resolved:
    """Judge ``given`` as a whole; :class:`SettingsError` has ``problems`` (of its form) and everything else wrong.

    ``model`` stands in for a checkpoint that is not there yet. A checkpoint that cannot be read raises its own
    :class:`CheckpointError` when nothing else is wrong.
    """
    settings, found = validate(given)
    found = [*problems, *found]
    wrong = {problem.path for problem in found}
    found += [problem for problem in contradictions(settings.hisparse) if problem.path not in wrong]
    if settings.model is not None:
        model = _read(settings.model, found)
    elif model is None and model_required and ("model",) not in wrong:
        found.append(
            Problem(
                ("model",),
                "is missing; give a checkpoint folder by --model, HISPARSE_MODEL, or model: in the file",
            )
        )
    tiers, plan = _capacities(settings, model, found)
    if found:
        raise SettingsError(in_order(_with_origin(problem, given) for problem in found))
    return Resolved(settings, given, tiers, model, plan)


def _read(folder: Path, problems: list[Problem]) -> ModelConfig | None:
    try:
        return read_config(folder)
    except CheckpointError as error:
        if not problems:
            raise
        problems.append(Problem(("model",), str(error)))
        return None


def _capacities(
    settings: Settings, model: ModelConfig | None, problems: list[Problem]
) -> tuple[HiSparseConfig, MemoryPlan | None]:
    """Return the tiers in tokens and what they take; add to ``problems`` what does not fit together."""
    engine, tiers = settings.engine, settings.hisparse
    resident = engine.mode == "resident"
    plain = HiSparseConfig(**{name: getattr(tiers, name) for name in HiSparseConfig.model_fields})
    if model is None:
        problems += _too_small_for_a_buffer(plain, None, resident)
        return plain, None
    try:
        KVLayout.of_model(model, engine.kv_cache_dtype)
    except ConfigError as error:
        problems.append(_problem("engine", error))
        engine = engine.model_copy(update={"kv_cache_dtype": "auto"})  # so that the rest is judged as well
    blueprint = blueprint_of(model, engine)
    filled = fill(tiers, blueprint.token(resident=resident), resident=resident, least_buffer=model.index_topk)
    if isinstance(filled, Problem):
        problems.append(filled)
        filled = plain
    try:
        sizes = filled.resolve(
            mode=engine.mode, top_k=model.index_topk, max_running_requests=engine.max_running_requests
        )
    except ConfigError as error:
        problems.append(_problem("hisparse", error))
        return filled, None
    problems += _too_small_for_a_buffer(filled, sizes.device_buffer_size, resident)
    return filled, blueprint.plan(sizes, engine.max_running_requests, resident=resident)


def _problem(section: str, error: ConfigError) -> Problem:
    """Return what ``error``, which begins with a setting's name, says of that setting."""
    name, _, text = str(error).partition(": ")
    return Problem((section, name), text)


def _too_small_for_a_buffer(tiers: HiSparseConfig, buffer: int | None, resident: bool) -> Iterator[Problem]:
    """Yield a problem when the device pool, as given, cannot hold one hot buffer."""
    buffer, device = buffer or tiers.device_buffer_size, tiers.device_tokens
    if resident or buffer is None or device is None or device > buffer:
        return
    yield Problem(
        ("hisparse", "device_tokens"),
        f"got {device}, less than one hot buffer: device_buffer_size {buffer}, and a slot for the newest token; "
        f"set {buffer + 1} or more, or a smaller device_buffer_size",
    )


def _with_origin(problem: Problem, given: Given) -> Problem:
    path: SettingPath = problem.path
    return problem._replace(origin=given[path].origin) if not problem.origin and path in given else problem
