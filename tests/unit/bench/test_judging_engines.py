"""What two engines took becomes a table, and the number of prompts from which the dearer start pays."""

from __future__ import annotations

import pytest
from bench import judging_engines
from bench.judging_engines import ENGINES, Found


def found(start: float, answers: float, texts: float = 1.0) -> Found:
    told = {"start": start, "texts": texts, "answers": answers, "end": 0.0}
    return Found(seconds={name: 2 * value for name, value in told.items()}, cpu_seconds=told)


def test_vllm_pays_from_where_what_it_saves_is_its_start() -> None:
    both = {"Transformers": [found(1, 20)], "vLLM": [found(11, 10)]}
    assert judging_engines.pays_from(both, "cpu_seconds", 100) == pytest.approx(100)
    both["vLLM"] = [found(11, 20)]
    assert judging_engines.pays_from(both, "cpu_seconds", 100) is None


def test_the_table_has_each_part_and_both_sums() -> None:
    both = {"Transformers": [found(1, 20), found(1, 30), found(1, 40)], "vLLM": [found(11, 10)]}
    lines = list(judging_engines.table(both, {"answers": "100 answers"}))
    assert "| 100 answers | 30.0 | 60.0 | 10.0 | 20.0 | 3.00 times as fast |" in lines
    assert "| start | 1.0 | 2.0 | 11.0 | 22.0 |  |" in lines
    assert "| all but start and end | 31.0 | 62.0 | 11.0 | 22.0 | 2.82 times as fast |" in lines
    assert ENGINES == ("Transformers", "vLLM")


def test_no_two_prompts_are_the_same() -> None:
    prompts = [prompt.messages[0]["content"] for prompt in judging_engines.data_of(1200).prompts]
    assert len(set(prompts)) == 1200
