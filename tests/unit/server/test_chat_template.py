"""Chat templates: the same text as transformers renders, in a sandbox, with refusals in the template's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from hisparse_engine.errors import CheckpointError
from hisparse_engine.server.chat_template import ChatTemplate, TemplateRefusalError
from tests.support.chat_checkpoint import SPECIAL, TEMPLATE, byte_tokenizer

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be <brief> & “kind”."},
    {"role": "user", "content": "  two\nlines ", "name": "n"},
    {"role": "assistant", "content": "Yes.", "tool_calls": [{"b": 1, "a": "ü"}]},
    {"role": "user", "content": "漢字"},
]
TEMPLATES = {
    "plain": TEMPLATE,
    "whitespace": "\n  {% for m in messages %}\n    {{ m.role }}: {{ m.content | trim }}\n  {% endfor %}\n\nend\n",
    "special tokens": "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
    "json": "{% for m in messages %}{{ m | tojson }}{{ m | tojson(indent=2) }}{% endfor %}",
    "namespace and loop controls": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% if loop.index == 3 %}{% break %}{% endif %}"
        "{% if m.role == 'system' %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content }}"
        "{% endfor %}"
    ),
    "generation tag": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "absent things": "{{ tools is none }}{{ documents is none }}{{ nothing is defined }}{{ add_generation_prompt }}",
    "date": "{{ strftime_now('%Y') }}",
    "variables": "{{ thinking }}{% if enable_thinking is defined and enable_thinking %}<think>{% endif %}",
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_the_one_that_transformers_renders(name: str) -> None:
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(),
        eos_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        chat_template=TEMPLATES[name],
    )
    ours = ChatTemplate(TEMPLATES[name], {"eos_token": SPECIAL[0], "bos_token": SPECIAL[1]}, Path("x"))
    variables = {"thinking": True, "enable_thinking": True}
    expected = theirs.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True, **variables)
    assert ours.render(MESSAGES, variables) == expected


def test_a_template_may_refuse() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {}, Path("x"))
    with pytest.raises(TemplateRefusalError, match="roles must alternate"):
        template.render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}", "{% for i in range(10**9) %}x{% endfor %}",
        "{{ cycler.__init__.__globals__.os }}", "{{ messages[0].nothing.more }}", "{{ 1 + 'a' }}",
    ],
)  # fmt: skip
def test_what_leads_out_of_the_sandbox_is_refused(source: str) -> None:
    with pytest.raises(TemplateRefusalError):
        ChatTemplate(source, {}, Path("x")).render(MESSAGES)


def test_variables_cannot_replace_the_messages() -> None:
    template = ChatTemplate("{{ messages[0].content }}{{ eos_token }}", {"eos_token": "!"}, Path("x"))
    assert template.render([{"content": "ours"}], {"messages": [{"content": "theirs"}]}) == "ours!"


def test_it_is_found_in_either_place_and_the_file_of_its_own_wins(tmp_path: Path) -> None:
    assert ChatTemplate.open(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(
        json.dumps({"chat_template": "config {{ eos_token }}", "eos_token": {"content": "</s>"}})
    )
    template = ChatTemplate.open(tmp_path)
    assert template is not None
    assert template.render([]) == "config </s>"
    (tmp_path / "chat_template.jinja").write_text("file {{ eos_token }}")
    template = ChatTemplate.open(tmp_path)
    assert template is not None
    assert template.render([]) == "file </s>"


def test_of_several_named_templates_the_default_one_is_taken(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    template = ChatTemplate.open(tmp_path)
    assert template is not None
    assert template.render([]) == "d"


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"chat_template": "{% if %}"})])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        ChatTemplate.open(tmp_path)
