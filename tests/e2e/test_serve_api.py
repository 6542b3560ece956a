"""The HTTP API of ``hisparse serve``, driven by the official client: what comes out, in which shape, how often the same."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import transformers

from hisparse_engine import __version__
from hisparse_engine.tokenizer import Tokenizer
from hisparse_metrics import catalogue
from tests.support.chat_checkpoint import write_chat_checkpoint
from tests.support.programs import promtool
from tests.support.serving import MODEL, Serving, eventually, serving

PROMPT = "the token of the pool"
CHAT: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the row?"}]
MANY = 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(checkpoint, tmp_path_factory.mktemp("stats"), "--decode-log-interval", "1") as one:
        yield one


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[openai.OpenAI]:
    with server.client() as one:
        yield one


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Tokenizer:
    return Tokenizer.open(checkpoint)


class Theirs:
    """The same checkpoint in transformers: greedy tokens, and log-probabilities of any sequence."""

    def __init__(self, checkpoint: Path) -> None:
        self._model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)

    @torch.inference_mode()
    def greedy(self, prompt: list[int], count: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self._model(torch.tensor([tokens])).logits[0, -1].argmax()))
        return tokens[len(prompt) :]

    @torch.inference_mode()
    def logprobs(self, prompt: list[int], tokens: list[int]) -> torch.Tensor:
        """Return ``[tokens, vocab]``: what was said of each position of ``tokens``."""
        logits = self._model(torch.tensor([prompt + tokens])).logits[0]
        return torch.log_softmax(logits[len(prompt) - 1 : -1].float(), dim=-1)


@pytest.fixture(scope="module")
def theirs(checkpoint: Path) -> Theirs:
    return Theirs(checkpoint)


def complete(client: openai.OpenAI, **options: Any) -> Any:
    return client.completions.create(
        **{"model": MODEL, "prompt": PROMPT, "max_tokens": 24, "temperature": 0} | options
    )


def ids_of(answer: Any, index: int = 0) -> list[int]:
    ids: list[int] = answer.choices[index].model_extra["token_ids"]
    return ids


IDS = {"extra_body": {"return_token_ids": True, "ignore_eos": True}}


def test_greedy_tokens_are_those_of_transformers(
    client: openai.OpenAI, tokenizer: Tokenizer, theirs: Theirs
) -> None:
    answer = complete(client, **IDS)
    expected = theirs.greedy(tokenizer.encode(PROMPT), 24)
    assert ids_of(answer) == expected
    assert answer.choices[0].text == tokenizer.decode(expected)
    assert answer.choices[0].finish_reason == "length"
    assert answer.model == MODEL


def test_usage_counts_prompt_and_answer(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    usage = complete(client).usage
    assert usage.prompt_tokens == len(tokenizer.encode(PROMPT))
    assert (usage.completion_tokens, usage.total_tokens) == (24, 24 + usage.prompt_tokens)
    assert usage.prompt_tokens_details.cached_tokens >= 0


def test_a_chat_is_the_template_s_text_as_a_prompt(
    client: openai.OpenAI, checkpoint: Path, tokenizer: Tokenizer, theirs: Theirs
) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=CHAT, temperature=0, max_completion_tokens=16,
        extra_body={"return_token_ids": True},
    )  # fmt: skip
    expected = transformers.AutoTokenizer.from_pretrained(checkpoint).apply_chat_template(
        CHAT, add_generation_prompt=True, return_dict=False
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == tokenizer.decode(theirs.greedy(expected, 16))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(expected)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.2, "top_p": 0.9, "seed": 5}])
def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI, options: dict[str, Any]) -> None:
    whole = complete(client, **options)
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}, **options))
    *texts, last = chunks
    assert "".join(chunk.choices[0].text for chunk in texts) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in texts if c.choices[0].finish_reason] == ["length"]
    assert len(texts) > 10
    assert (last.choices, last.usage.completion_tokens) == ([], 24)
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_chat_s_stream_adds_up_and_begins_with_who_speaks(client: openai.OpenAI) -> None:
    options: Any = {"model": MODEL, "messages": CHAT, "max_tokens": 16, "seed": 11, "temperature": 1}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks)


def test_a_seed_repeats_and_no_seed_does_not(client: openai.OpenAI) -> None:
    def text(**options: Any) -> str:
        answer: str = complete(client, temperature=1.5, **options).choices[0].text
        return answer

    assert text(seed=1) == text(seed=1)
    assert text(seed=1) != text(seed=2)
    assert text() != text()


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_across_tokens_ends_the_text_before_it(client: openai.OpenAI, stream: bool) -> None:
    full = complete(client).choices[0].text
    for start, end in [(3, 8), (5, 9), (10, 16)]:
        stop = full[start:end]
        cut = full[: full.find(stop)]
        answer = complete(client, stop=["never in it", stop], stream=stream)
        parts = list(answer) if stream else [answer]
        assert "".join(part.choices[0].text for part in parts) == cut
        assert parts[-1].choices[0].finish_reason == "stop"


def test_a_stop_string_ends_the_request_in_the_engine_too(server: Serving, client: openai.OpenAI) -> None:
    full = complete(client).choices[0].text
    before = server.metrics()
    answer = complete(client, stop=full[:2], max_tokens=3000)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("", "stop")
    assert answer.usage.completion_tokens < 24
    eventually(lambda: server.metrics()["hisparse_running_requests"] == 0, "it still runs")
    grown = {name: value - before[name] for name, value in server.metrics().items()}
    assert (grown["hisparse_requests_total:stop"], grown["hisparse_requests_total:aborted"]) == (1, 0)
    assert grown["hisparse_generation_tokens_total"] < 1500


def test_logprobs_are_those_of_transformers(
    client: openai.OpenAI, tokenizer: Tokenizer, theirs: Theirs
) -> None:
    answer = complete(client, logprobs=5, seed=3, temperature=1, **IDS)
    tokens, facts = ids_of(answer), answer.choices[0].logprobs
    expected = theirs.logprobs(tokenizer.encode(PROMPT), tokens)
    chosen = expected[torch.arange(24), torch.tensor(tokens)]
    assert torch.allclose(torch.tensor(facts.token_logprobs), chosen, atol=1e-3)
    best, best_ids = expected.topk(5)
    for row in range(24):
        assert torch.allclose(torch.tensor(list(facts.top_logprobs[row].values())), best[row], atol=1e-3)
    names = [max(top, key=lambda name, top=top: top[name]) for top in facts.top_logprobs]
    assert names == [name_of(tokenizer, int(row[0])) for row in best_ids]
    assert [facts.tokens[i] for i in range(24)] == [name_of(tokenizer, token) for token in tokens]


def name_of(tokenizer: Tokenizer, token: int) -> str:
    raw = tokenizer.token_bytes(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def test_a_chat_s_logprobs_have_the_bytes_of_the_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=CHAT, max_tokens=16, temperature=0, logprobs=True, top_logprobs=3
    )
    facts, text = answer.choices[0].logprobs, answer.choices[0].message.content
    assert facts is not None
    assert facts.content is not None
    assert text is not None
    raw = b"".join(bytes(entry.bytes or []) for entry in facts.content)
    assert raw.decode(errors="replace") == text
    assert all(len(entry.top_logprobs) == 3 for entry in facts.content)
    assert all(entry.top_logprobs[0].token == entry.token for entry in facts.content)  # greedy


def test_prompts_are_text_or_ids_one_or_several(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(PROMPT)
    one = complete(client).choices[0].text
    assert complete(client, prompt=ids).choices[0].text == one
    other = complete(client, prompt="in the order").choices[0].text
    several = complete(client, prompt=[PROMPT, "in the order"])
    assert [choice.text for choice in several.choices] == [one, other]
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.usage.completion_tokens == 48
    assert [c.text for c in complete(client, prompt=[ids, ids]).choices] == [one, one]
    texts = ["", ""]
    for chunk in complete(client, prompt=[PROMPT, "in the order"], stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [one, other]


def test_a_second_prompt_that_begins_alike_finds_its_beginning_cached(client: openai.OpenAI) -> None:
    ids = [100 + i % 150 for i in range(300)]
    stream = complete(client, prompt=ids, max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))  # its rows are there
    usage = complete(client, prompt=[*ids, 7], max_tokens=1).usage
    stream.close()
    assert 0 < usage.prompt_tokens_details.cached_tokens <= 300


def test_many_at_once_get_what_each_gets_alone(client: openai.OpenAI) -> None:
    def answer(number: int) -> str:
        options: dict[str, Any] = {"prompt": [10 + number, 20, 30], "seed": number, "temperature": 0.8}
        if number % 2:
            return "".join(chunk.choices[0].text for chunk in complete(client, stream=True, **options))
        text: str = complete(client, **options).choices[0].text
        return text

    with ThreadPoolExecutor(MANY) as pool:
        together = list(pool.map(answer, range(MANY)))
    some = range(0, MANY, 5)
    assert [together[number] for number in some] == [answer(number) for number in some]
    assert len(set(together)) > MANY // 2


def test_models_are_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.owned_by) == (MODEL, "hisparse")
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_the_answer_s_id_is_in_its_headers_and_may_be_chosen(client: openai.OpenAI) -> None:
    answer = client.completions.with_raw_response.create(
        model=MODEL, prompt="a", max_tokens=1, extra_headers={"X-Request-Id": "mine-1"}
    )
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.parse().id == "mine-1"
    assert complete(client)._request_id.startswith("cmpl-")


def test_it_says_how_it_is(server: Serving) -> None:
    assert server.get("/health") == (200, {"status": "ok", "open_requests": 0})
    assert server.get("/version") == (200, {"version": __version__})


def test_metrics_pass_promtool_while_decoding(server: Serving, client: openai.OpenAI) -> None:
    stream = complete(client, prompt=[9], max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    stream.close()
    promtool("check", "metrics", stdin=text)
    (line,) = [line for line in text.splitlines() if line.startswith(f"{catalogue.RUNNING_REQUESTS.name}{{")]
    assert 'engine_name="serve"' in line
    assert line.endswith(" 1.0")


def test_a_scrape_may_ask_for_openmetrics_and_gzip(server: Serving) -> None:
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    request = urllib.request.Request(f"{server.url}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")


def test_the_log_has_a_line_a_step(server: Serving, client: openai.OpenAI) -> None:
    complete(client, max_tokens=4)
    assert "gen throughput" in server.wait_for("Decode batch")


def test_the_model_s_own_command_gives_the_same_tokens(client: openai.OpenAI, checkpoint: Path) -> None:
    from click.testing import CliRunner

    from hisparse_engine.commands.generate import command

    arguments = ["--model", str(checkpoint), "--prompt", PROMPT, "--max-new-tokens", "24", "--json"]
    threads = torch.get_num_threads()
    result = CliRunner().invoke(command, arguments)
    torch.set_num_threads(threads)
    assert json.loads(result.stdout)["token_ids"] == ids_of(complete(client, **IDS))
