"""``/v1/completions`` and ``/v1/chat/completions``: from a body to an answer, whole or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hisparse_engine.server.answer import Answer
from hisparse_engine.server.chat_template import TemplateRefusalError
from hisparse_engine.server.choice import Choice, Piece
from hisparse_engine.server.engine_client import EngineClient, Job
from hisparse_engine.server.errors import ApiError, bad_request
from hisparse_engine.server.event_stream import ClientGoneError, EventStream, unless_client_leaves
from hisparse_engine.server.gate import Gate
from hisparse_engine.server.open_answers import OpenAnswers
from hisparse_engine.server.read_body import read_json
from hisparse_engine.server.schema import ChatBody, CompletionBody, GenerationBody, parse_body
from hisparse_engine.server.served_model import ServedModel
from hisparse_engine.server.shapes import ChatShape, CompletionShape, Shape, merged

_COMPLETION_TOKENS = 16
"""What ``/v1/completions`` generates when the client gives no number, as OpenAI's does."""


@dataclass(frozen=True)
class Service:
    """What the endpoints work with."""

    engine: EngineClient
    model: ServedModel
    gate: Gate
    answers: OpenAnswers
    max_body_bytes: int


@dataclass(frozen=True)
class _Plan:
    """A checked request: what to generate, and how to present it."""

    body: GenerationBody
    jobs: Sequence[Job]
    param: str
    shape: Shape
    answer_id: str


def generation_routes(service: Service) -> APIRouter:
    """Return both endpoints."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await _respond(service, request, partial(_plan_completion, service, request))

    @router.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _respond(service, request, partial(_plan_chat, service, request))

    return router


_Planner = Callable[[dict[str, object]], "_Plan"]


async def _respond(service: Service, request: Request, plan: _Planner) -> Response:
    service.gate.check()
    raw = await read_json(request, service.max_body_bytes)
    try:
        return await unless_client_leaves(request.receive, _answer(service, raw, plan))
    except ClientGoneError:
        return Response(status_code=HTTPStatus.NO_CONTENT)  # nobody reads it


async def _answer(service: Service, raw: dict[str, object], planner: _Planner) -> Response:
    plan = await asyncio.to_thread(planner, raw)  # templates and tokenizers take their time
    service.gate.check()
    model = service.model
    choices = [Choice(model.tokenizer, plan.body.stop) for _ in plan.jobs]
    retry_after = service.answers.retry_after()
    answer = Answer(service.engine, plan.jobs, choices, param=plan.param, retry_after=retry_after)
    headers = {"X-Request-Id": plan.answer_id}
    close = partial(service.answers.close, plan.answer_id)
    service.answers.add(plan.answer_id, answer)
    try:
        await answer.start()
        if plan.body.stream:
            return EventStream(_chunks(answer, plan), close, headers)
        whole = await _whole(answer, plan)
    except BaseException:
        close()
        raise
    close()
    return JSONResponse(whole, headers=headers)


async def _whole(answer: Answer, plan: _Plan) -> dict[str, object]:
    pieces: list[list[Piece]] = [[] for _ in plan.jobs]
    async for index, piece in answer.pieces():
        pieces[index].append(piece)
    return plan.shape.answer([merged(one) for one in pieces], answer.usage)


async def _chunks(answer: Answer, plan: _Plan) -> AsyncGenerator[dict[str, object], None]:
    for chunk in plan.shape.first_chunks(len(plan.jobs)):
        yield chunk
    async with aclosing(answer.pieces()) as pieces:
        async for index, piece in pieces:
            if piece.text or piece.tokens or piece.finish_reason:
                yield plan.shape.chunk_of(index, piece)
    if plan.body.include_usage:
        yield plan.shape.usage_chunk(answer.usage)


def _plan_completion(service: Service, request: Request, raw: dict[str, object]) -> _Plan:
    body = parse_body(CompletionBody, raw)
    _check_model(service.model, body.model)
    new_tokens = body.new_tokens or _COMPLETION_TOKENS
    jobs = [service.model.job(_encode(service, prompt), body, new_tokens, "prompt") for prompt in body.prompt]
    return _plan(service, request, body, jobs, "prompt", CompletionShape, "cmpl-")


def _plan_chat(service: Service, request: Request, raw: dict[str, object]) -> _Plan:
    body = parse_body(ChatBody, raw)
    _check_model(service.model, body.model)
    prompt = _render(service.model, body)
    job = service.model.job(prompt, body, body.new_tokens, "messages")
    return _plan(service, request, body, [job], "messages", ChatShape, "chatcmpl-")


def _plan(
    service: Service, request: Request, body: GenerationBody, jobs: Sequence[Job], param: str,
    shape: type[Shape], prefix: str,
) -> _Plan:  # fmt: skip
    answer_id = service.answers.new_id(prefix, request.headers.get("x-request-id"))
    model = service.model
    shaped = shape(
        answer_id, model.name, int(time()), model.tokenizer,
        with_logprobs=body.num_logprobs is not None, with_ids=bool(body.return_token_ids),
    )  # fmt: skip
    return _Plan(body, jobs, param, shaped, answer_id)


def _check_model(model: ServedModel, asked: str) -> None:
    if asked != model.name:
        raise ApiError(
            HTTPStatus.NOT_FOUND,
            f"model: {asked[:100]!r} is not served here; this server has {model.name!r}",
            param="model",
            code="model_not_found",
        )


def _encode(service: Service, prompt: str | list[int]) -> list[int]:
    ids = service.model.encode(prompt)
    if not ids:
        raise bad_request("prompt: is empty; send at least one token", param="prompt")
    return ids


def _render(model: ServedModel, body: ChatBody) -> list[int]:
    if model.template is None or model.tokenizer is None:
        raise bad_request(
            "messages: the checkpoint has no chat template (or no tokenizer); use /v1/completions, or add the "
            "chat_template.jinja of the model's release",
            param="messages",
        )
    messages = [message.for_template() for message in body.messages]
    try:
        text = model.template.render(messages, body.chat_template_kwargs)
    except TemplateRefusalError as error:
        raise bad_request(f"messages: {error}", param="messages") from None
    return model.tokenizer.encode(text, special_tokens=False)
