"""Files of lengths: three forms, and mistakes that are told with their place."""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path
from statistics import median

import pytest

from benchmarks.load_generator.lengths import Row, read_lengths
from benchmarks.load_generator.settings import LoadError

DATA = Path(__file__).parents[3] / "benchmarks/data"


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt_tokens": 12, "output_tokens": 3}\n\n{"output_tokens": 1, "prompt_tokens": 7, "more": true}\n',
        "prompt_tokens,output_tokens\n12,3\n7,1\n",
        "user,output_tokens,prompt_tokens\na,3,12\nb,1,7",
    ],
    ids=["json", "csv", "other columns"],
)
def test_lines_are_requests(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    assert read_lengths(tmp_path / "x") == [(Row(12, 3),), (Row(7, 1),)]


def test_shared_chats_keep_their_questions_and_the_length_of_their_answers(tmp_path: Path) -> None:
    said = [
        ("system", "Be."),
        ("human", "What is it?"),
        ("gpt", "x" * 40),
        ("human", "Why?"),
        ("gpt", "y" * 8),
    ]
    chats = [
        {"conversations": [{"from": who, "value": what} for who, what in said]},
        {"conversations": [{"from": "gpt", "value": "an answer without a question"}]},
    ]
    (tmp_path / "x.json").write_text(json.dumps(chats))
    assert read_lengths(tmp_path / "x.json") == [(Row(3, 10, "What is it?"), Row(1, 2, "Why?"))]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the header must have prompt_tokens,output_tokens"),
        ("prompt_tokens,output_tokens\n", "has no lengths"),
        (
            "prompt_tokens,output_tokens\n5,1\n5,0\n",
            "line 3: output_tokens must be a whole number from 1, got '0'",
        ),
        ("prompt_tokens,output_tokens\n5\n", "line 2: output_tokens must be a whole number from 1, got None"),
        (
            '{"prompt_tokens": 1.5, "output_tokens": 1}',
            "line 1: prompt_tokens must be a whole number from 1, got 1.5",
        ),
        ('{"prompt_tokens": 1, "output_tokens": 1}\n{"prompt', "line 2: not JSON"),
        ('[{"conversation": []}]', "not ShareGPT's form"),
        ("[]", "has no lengths"),
    ],
)
def test_mistakes_have_a_place(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(LoadError) as error:
        read_lengths(tmp_path / "x")
    assert str(error.value).startswith(f"{tmp_path / 'x'}")
    assert problem in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "not text"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(LoadError, match="cannot be read"):
        read_lengths(tmp_path / "x")


def test_the_shipped_lengths_are_what_their_recipe_makes() -> None:
    made = runpy.run_path(str(DATA / "make_lengths.py"))["rows"]()
    found = [(row.prompt_tokens, row.output_tokens) for (row,) in read_lengths(DATA / "lengths.csv")]
    assert found == made
    assert len(found) == 200
    logs = [math.log(prompt) for prompt, _ in found]
    assert median(prompt for prompt, _ in found) == pytest.approx(300, rel=0.15)
    assert (sum((x - sum(logs) / 200) ** 2 for x in logs) / 200) ** 0.5 == pytest.approx(0.6, rel=0.15)
