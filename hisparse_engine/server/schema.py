"""What clients may send: the bodies of both endpoints, checked as a whole; every wrong field is reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hisparse_engine.server.errors import ApiError, bad_request
from hisparse_engine.server.parameters import check_parameters

MAX_STOPS = 16
MAX_PROMPTS = 64
_Body = TypeVar("_Body", bound="GenerationBody")


def _stops(value: Any) -> Any:
    """One string or several become a list."""
    if value is None:
        return []
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError("must be a non-empty string, or a list of them")
    if len(stops) > MAX_STOPS:
        raise ValueError(f"has {len(stops)} strings; send at most {MAX_STOPS}")
    return stops


def _prompts(value: Any) -> Any:
    """Each of the four forms becomes a list of prompts, each a text or a list of token ids."""
    if isinstance(value, str) or _is_ids(value):
        return [value]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) or _is_ids(v) for v in value):
        raise ValueError("must be a string, a non-empty list of token ids, or a list of either")
    if len(value) > MAX_PROMPTS:
        raise ValueError(f"has {len(value)} prompts; send at most {MAX_PROMPTS} in one request")
    return value


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    include_usage: bool = False
    include_obfuscation: bool = False  # nothing to obfuscate here


class GenerationBody(BaseModel):
    """What both endpoints have in common. ``None`` leaves a value to the server."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[str], BeforeValidator(_stops)] = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None

    @model_validator(mode="after")
    def _options_belong_to_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream set to true")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def new_tokens(self) -> int | None:
        """How many tokens may be generated, where the client says so."""
        return self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """How many alternatives to report for each token; None reports nothing."""
        raise NotImplementedError


class CompletionBody(GenerationBody):
    """``POST /v1/completions``."""

    prompt: Annotated[list[str | list[int]], BeforeValidator(_prompts)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def num_logprobs(self) -> int | None:
        """The field as it is."""
        return self.logprobs


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message; what a template may want to know beyond these (``name``, ``tool_calls``, …) goes through to it."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates know it: plain text, and ``system`` for its newer name."""
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": content, **(self.model_extra or {})}


class ChatBody(GenerationBody):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _top_needs_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: only with logprobs set to true")
        return self

    @property
    def new_tokens(self) -> int | None:
        """Return the newer of two names for the same, where both are given."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Two fields in one."""
        return (self.top_logprobs or 0) if self.logprobs else None


def parse_body(kind: type[_Body], body: Mapping[str, Any]) -> _Body:
    """Return the checked body; :class:`ApiError` names every field that is wrong."""
    known = check_parameters(body, kind.model_fields)
    try:
        return kind.model_validate(known)
    except ValidationError as error:
        raise _explain(error) from None


def _explain(error: ValidationError) -> ApiError:
    problems: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"] if not _names_a_type(part))
        message = problem["msg"].removeprefix("Value error, ")
        if not path:  # of the whole body: the message names the field
            path, _, message = message.partition(": ")
        elif problem["type"] not in {"missing", "value_error"}:
            message = f"{message}, got {repr(problem['input'])[:60]}"
        problems.setdefault(path, message)
    text = "; ".join(f"{path}: {message}" for path, message in problems.items())
    return bad_request(text, param=next(iter(problems)).split(".")[0])


def _names_a_type(part: int | str) -> bool:
    """Tell pydantic's names for the members of a union from names of fields."""
    return isinstance(part, str) and (part in {"str", "int"} or "[" in part)
