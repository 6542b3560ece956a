"""Bodies: what is taken, what is refused, and that a refusal names every wrong field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_engine.server.errors import ApiError
from hisparse_engine.server.parameters import HARMLESS, NEUTRAL
from hisparse_engine.server.schema import ChatBody, CompletionBody, parse_body

COMPLETION: dict[str, Any] = {"model": "m", "prompt": "a"}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}]}


def refusal(kind: type[CompletionBody | ChatBody], body: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(ApiError) as raised:
        parse_body(kind, body)
    assert raised.value.status == 400
    error: dict[str, Any] = raised.value.body["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("prompt", "parsed"),
    [("a", ["a"]), ([1, 2], [[1, 2]]), (["a", "b"], ["a", "b"]), ([[1], [2, 3]], [[1], [2, 3]]), ("", [""])],
)
def test_a_prompt_has_four_forms(prompt: Any, parsed: Any) -> None:
    assert parse_body(CompletionBody, COMPLETION | {"prompt": prompt}).prompt == parsed


@pytest.mark.parametrize("prompt", [None, [], [[]], [1, "a"], [1.5], [True], {"a": 1}, ["a"] * 65])
def test_other_prompts_are_refused(prompt: Any) -> None:
    assert refusal(CompletionBody, COMPLETION | {"prompt": prompt})["param"] == "prompt"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", "5"), ("max_tokens", 1.5), ("max_tokens", True),
        ("temperature", -0.1), ("temperature", 2.1), ("temperature", float("nan")), ("temperature", "hot"),
        ("top_p", 0), ("top_p", 1.01), ("seed", 2**63), ("seed", "a"), ("stop", ""), ("stop", [1]),
        ("stop", ["a"] * 17), ("stream", "yes"), ("logprobs", 6), ("logprobs", -1), ("model", None),
        ("ignore_eos", 1),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    error = refusal(CompletionBody, COMPLETION | {field: value})
    assert error["param"] == field
    assert error["message"].startswith(f"{field}: ")


def test_all_wrong_fields_are_named_at_once() -> None:
    message = refusal(CompletionBody, {"prompt": 3, "top_p": 7, "max_tokens": 0})["message"]
    assert all(f"{field}: " in message for field in ("model", "prompt", "top_p", "max_tokens"))


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "top_p", "seed", "stop", "stream", "logprobs"])
def test_null_leaves_it_to_the_server(name: str) -> None:
    assert parse_body(CompletionBody, COMPLETION | {name: None}) == parse_body(CompletionBody, COMPLETION)


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_what_changes_no_output_is_taken(name: str) -> None:
    assert parse_body(ChatBody, CHAT | {name: "anything"}) == parse_body(ChatBody, CHAT)


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_what_is_not_implemented_is_refused_unless_it_changes_nothing(name: str) -> None:
    for neutral in (None, *NEUTRAL[name]):
        assert parse_body(ChatBody, CHAT | {name: neutral}) == parse_body(ChatBody, CHAT)
    error = refusal(ChatBody, CHAT | {name: [{"x": 1}]})
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")


def test_true_is_not_one() -> None:
    assert refusal(ChatBody, CHAT | {"n": True})["param"] == "n"


def test_a_misspelt_parameter_is_not_ignored() -> None:
    error = refusal(ChatBody, CHAT | {"temprature": 0})
    assert error["message"] == "temprature: no such parameter; did you mean temperature?"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "robot", "content": "a"}, {"content": "a"}, {"role": "user", "content": 3},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "hello",
    ],
)  # fmt: skip
def test_messages_that_no_template_could_take_are_refused(message: Any) -> None:
    assert refusal(ChatBody, CHAT | {"messages": [message]})["param"] == "messages"


def test_a_chat_needs_a_message() -> None:
    assert refusal(ChatBody, CHAT | {"messages": []})["param"] == "messages"


def test_a_message_goes_to_the_template_as_text_with_what_else_it_has() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = parse_body(ChatBody, CHAT | {"messages": [{"role": "developer", "content": parts, "name": "n"}]})
    assert body.messages[0].for_template() == {"role": "system", "content": "ab", "name": "n"}


def test_options_that_need_another_say_which() -> None:
    assert "stream" in refusal(ChatBody, CHAT | {"stream_options": {"include_usage": True}})["message"]
    assert refusal(ChatBody, CHAT | {"top_logprobs": 3})["param"] == "top_logprobs"


def test_the_newer_name_of_the_token_limit_wins() -> None:
    assert parse_body(ChatBody, CHAT | {"max_tokens": 3, "max_completion_tokens": 5}).new_tokens == 5
    assert parse_body(ChatBody, CHAT | {"max_tokens": 3}).new_tokens == 3


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 4}, 4),
    ],
)
def test_two_fields_say_how_many_logprobs(fields: dict[str, Any], number: int | None) -> None:
    assert parse_body(ChatBody, CHAT | fields).num_logprobs == number


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    sorted({*CompletionBody.model_fields, *ChatBody.model_fields, *NEUTRAL, "role", "typo"})
)


@given(fields=st.dictionaries(names, json_values, max_size=4), valid=st.booleans())
def test_nothing_that_json_can_say_gets_past_or_breaks_the_check(fields: dict[str, Any], valid: bool) -> None:
    for kind, base in ((CompletionBody, COMPLETION), (ChatBody, CHAT)):
        error = error_in(kind, (base if valid else {}) | fields)
        assert error is None or json.loads(error.encode())["error"]["message"]


def error_in(kind: type[CompletionBody | ChatBody], body: dict[str, Any]) -> ApiError | None:
    try:
        parse_body(kind, body)
    except ApiError as error:
        return error
    return None
