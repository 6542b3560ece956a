"""What a person may set. Frozen and validated as a whole: every wrong field is reported at once, with the remedy."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hisparse_engine.errors import ConfigError
from hisparse_engine.layout import KVCacheDtype, PoolSizes
from hisparse_engine.memory_plan import HOST_TO_DEVICE_RATIO

Mode = Literal["hierarchical", "resident"]
LogFormat = Literal["split", "legacy", "json"]
Dtype = Literal["float32", "bfloat16"]
MAX_TOKENS = 2**31 - 1
"""Slots and positions are 32 bits wide in the residency maps."""
Size = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Count = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


class Frozen(BaseModel):
    """Settings that belong together: no other names, no change, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False, allow_inf_nan=False)

    @classmethod
    def parse(cls, **fields: Any) -> Self:
        """Build from keyword settings; :class:`ConfigError` lists every field that is wrong."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None


class HiSparseConfig(Frozen):
    """The two tiers. Sizes are in tokens; ``None`` derives a size (see :meth:`resolve`)."""

    device_buffer_size: Size | None = None
    """Hot buffer of one request, without the newest token's slot. Default: twice the model's top-k, as far as the
    device pool has room for one."""
    device_tokens: Size | None = None
    """Device pool. Default: a full hot buffer for each of ``max_running_requests``."""
    host_tokens: Size | None = None
    """Host pool. Default: 8 × the device pool."""
    index_tokens: Size | None = None
    """Index keys on the device. Default: as many as tokens that can be held (host pool; device pool if resident)."""

    def resolve(self, *, mode: Mode, top_k: int, max_running_requests: int) -> PoolSizes:
        """Fill in what was left open; :class:`ConfigError` when the buffer cannot hold one step's top-k."""
        buffer = self.device_buffer_size or self._default_buffer(top_k)
        if mode == "hierarchical" and buffer < top_k:
            raise ConfigError(
                f"device_buffer_size: {buffer} is smaller than the model's index_topk {top_k}, and a step attends that "
                f"many rows at once; set --device-buffer-size to {top_k} or more (or leave it out for {2 * top_k})"
            )
        device = self.device_tokens or max_running_requests * (buffer + 1)
        host = self.host_tokens or HOST_TO_DEVICE_RATIO * device
        held = host if mode == "hierarchical" else device
        return PoolSizes(
            device_tokens=device,
            host_tokens=host,
            index_tokens=self.index_tokens or held,
            device_buffer_size=buffer,
        )

    def _default_buffer(self, top_k: int) -> int:
        """Twice the top-k; less, down to the top-k, when a small device pool is asked for."""
        if self.device_tokens is None:
            return 2 * top_k
        return max(top_k, min(2 * top_k, self.device_tokens - 1))


class EngineSettings(Frozen):
    """How the engine works; what the two tiers hold is :class:`HiSparseConfig`'s."""

    mode: Mode = "hierarchical"
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of weights, activations and KV rows; :meth:`dtype_for` says what ``auto`` comes to."""
    kernels: Literal["auto", "reference"] = "auto"
    """On a CUDA device, ``auto`` decodes with compiled kernels and CUDA graphs where it can; ``reference`` never does."""
    kv_cache_dtype: KVCacheDtype = "auto"
    """How KV rows are stored in both tiers: as the model computes them, or in float8 with scales."""
    index_key_dtype: Literal["model", "float8"] = "model"
    """How index keys are stored: as the model computes them, or in fp8 with one scale a key (compiled kernels only)."""
    max_running_requests: Size = 64
    reserve: Literal["worst-case", "quantile"] = "worst-case"
    """What admission promises a request: all it may need, or what most recent answers needed (with retraction)."""
    reserve_quantile: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The share of recent answers that the ``quantile`` promise covers."""
    prefix_reuse: bool = True
    """Share the rows of a prefix that another request has computed, and keep those of ended ones while there is room."""
    prefill_chunk_size: Size = 512
    """Prompt tokens computed in one step, over all requests in prefill."""
    threads: Size | None = None
    """CPU threads of the model. Default: PyTorch's own choice, one a core."""
    decode_log_interval: Size = 40
    log_format: LogFormat = "split"
    verify_every: Count = 0
    """Every N decode steps compare one request's hot rows of one layer with their host rows; 0: never."""
    audit_every: Count = 256
    """Every N steps, and whenever the engine runs empty, check that the pools' accounts add up; 0: never.

    When they do not, the admitted requests fail, the pools are cleared and
    ``hisparse_invariant_violations_total`` rises; the engine goes on with those that wait."""

    def dtype_for(self, checkpoint: str) -> Dtype:
        """Return what a model is computed in whose config says the dtype ``checkpoint``.

        ``auto`` is float32 on the CPU. On a CUDA device it is the checkpoint's own: bfloat16 for float16 too, which
        nothing here computes in.
        """
        if self.dtype != "auto":
            return self.dtype
        return "float32" if self.device == "cpu" or checkpoint == "float32" else "bfloat16"

    def row_dtype_for(self, checkpoint: str) -> str:
        """Return what KV rows are then stored in."""
        return self.dtype_for(checkpoint) if self.kv_cache_dtype == "auto" else self.kv_cache_dtype


class EngineConfig(EngineSettings):
    """Everything that the engine needs to know besides the checkpoint, on the machine where it is to run."""

    hisparse: HiSparseConfig = HiSparseConfig()

    @model_validator(mode="after")
    def _device_is_there(self) -> Self:
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise ValueError("device: no CUDA device is visible to PyTorch; use --device cpu")
        return self


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"]) or "configuration"
        message = problem["msg"].removeprefix("Value error, ")
        given = "" if problem["type"] in {"missing", "value_error"} else f", got {problem['input']!r}"
        lines.append(f"{path}: {message}{given}" if problem["loc"] else message)
    return "; ".join(lines)
