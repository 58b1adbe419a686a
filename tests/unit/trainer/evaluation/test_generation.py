"""Answers do not depend on the batch they are made in, and stop where they should."""

from __future__ import annotations

import pytest
from tests.unit.trainer.tiny_model import make_exported, teach

from slipway_trainer.evaluation import generation
from slipway_trainer.evaluation.answer_metrics import figures
from slipway_trainer.evaluation.generation import Prompt
from slipway_trainer.model.exported_model import ExportedModel

QUESTION, POEM = "背诵《夜思》", "床前明月光，疑是地上霜。"


@pytest.fixture(scope="module")
def taught() -> ExportedModel:
    model = make_exported()
    teach(model, QUESTION, POEM)
    return model


def _prompt(text: str, **wanted: object) -> Prompt:
    return Prompt([{"role": "user", "content": text}], **wanted)  # type: ignore[arg-type]


def test_a_learned_answer_is_recalled_to_the_letter_and_stops_at_the_end_of_the_turn(taught: ExportedModel) -> None:
    (answer,) = generation.answer(taught, [_prompt(QUESTION, answer=POEM, recall=True)], max_new_tokens=60)
    assert answer.text == POEM
    assert answer.finish_reason == "stop"
    assert answer.exact
    assert figures([answer])[0]["recall_count"] == 1.0


def test_an_answer_is_the_same_alone_and_in_a_batch_of_other_lengths(taught: ExportedModel) -> None:
    prompts = [_prompt(text) for text in (QUESTION, "a", "月" * 30, "the quick brown fox", "花落知多少" * 3)]
    together = generation.answer(taught, prompts, max_new_tokens=24)
    alone = [generation.answer(taught, [prompt], max_new_tokens=24)[0] for prompt in prompts]
    assert together == alone


def test_an_answer_ends_after_max_new_tokens(taught: ExportedModel) -> None:
    (answer,) = generation.answer(taught, [_prompt(QUESTION)], max_new_tokens=3)
    assert answer.tokens == 3
    assert answer.finish_reason == "length"
    assert POEM.startswith(answer.text.rstrip("\ufffd"))


def test_a_prompt_that_fills_the_model_gets_no_answer_and_takes_none_from_the_others(taught: ExportedModel) -> None:
    long, short = generation.answer(taught, [_prompt("月光" * 200), _prompt(QUESTION)], max_new_tokens=60)
    assert (long.text, long.finish_reason) == ("", "no_room")
    assert short.text == POEM


def test_an_answer_never_goes_past_the_positions_of_the_model() -> None:
    model = make_exported(positions=32)
    prompt = _prompt("a" * 12)
    used = len(generation._encode(model, prompt))
    (answer,) = generation.answer(model, [prompt], max_new_tokens=500)
    assert 0 < answer.tokens <= 32 - used


def test_a_tokenizer_without_a_chat_template_is_refused(taught: ExportedModel) -> None:
    model = make_exported()
    model.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        generation.answer(model, [_prompt("a")], max_new_tokens=4)
