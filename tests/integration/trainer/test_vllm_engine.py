"""The engine that serves judges as transformers does: the same log-probabilities in float32, and the same answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.trainer.tiny_model import TEXTS, make_exported, teach

from slipway_trainer.evaluation import vllm_engine
from slipway_trainer.evaluation.generation import Prompt
from slipway_trainer.evaluation.transformers_engine import TransformersEngine
from slipway_trainer.model import exported_model, model_files

pytestmark = pytest.mark.slow
POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
ASKED = ["背诵《静夜思》", "The quick brown fox", "说点什么", "x" * 300]

PAIRS = [
    ("The quick brown", " fox"),
    ("The quick brown", " dog and the rain"),
    ("", "山"),
    ("x " * 200, "y"),
    ("山 ", "水"),
]
CONTEXTS: list[tuple[str, dict[str, Any]]] = [
    ("The quick brown", {"until": [], "tokens": 40}),
    ("The rain in", {"until": ["n"], "tokens": 40}),
    ("x " * 200, {"until": ["\n"], "tokens": 4}),
]


def test_both_engines_say_the_same_of_texts_and_answer_prompts_alike(tmp_path: Path) -> None:
    made = make_exported()
    teach(made, ASKED[0], POEM)
    folder = tmp_path / "model"
    model_files.write_model(made.model, made.tokenizer, folder)
    # A penalty that changes answers, and an end that only generation_config.json names.
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": 1.3}))
    ours = TransformersEngine(exported_model.load(folder, dtype=torch.float32), "because")
    documents = [*TEXTS, " ".join(TEXTS), "", "山"]
    prompts = [Prompt([{"role": "user", "content": text}], source=f"p.jsonl:{at}") for at, text in enumerate(ASKED)]
    taught = made.tokenizer.apply_chat_template(
        [{"role": "user", "content": ASKED[0]}], tokenize=False, add_generation_prompt=True
    )
    pairs = [*PAIRS, (str(taught), POEM)]
    before = dict(os.environ)
    with vllm_engine.opened(folder, "because") as theirs:
        assert theirs.told["engine"] == "vLLM"
        assert (theirs.dtype, theirs.repetition_penalty) == ("float32", 1.3)
        score = theirs.score(documents, window=None)
        answers = theirs.answer(prompts, max_new_tokens=30)
        likelihoods, writings = theirs.for_tasks().likelihoods(pairs), theirs.for_tasks().writings(CONTEXTS)
    assert dict(os.environ) == before
    wanted = ours.score(documents, window=score.window)
    # The model takes 128 tokens, of which one is what vLLM writes.
    assert score.window == 126
    assert (score.tokens, score.documents, score.prefix_token) == (wanted.tokens, wanted.documents, wanted.prefix_token)
    assert score.by_document is not None
    assert wanted.by_document is not None
    assert np.allclose(score.by_document.nll, wanted.by_document.nll, rtol=1e-4, atol=1e-3)
    own = ours.for_tasks()
    own._window = score.window
    for found, known in zip(likelihoods, own.likelihoods(pairs), strict=True):
        assert found == (pytest.approx(known[0], rel=1e-4, abs=1e-3), known[1])
    assert [greedy for _, greedy in likelihoods][-1]
    assert writings == own.writings(CONTEXTS)
    assert "n" not in writings[1]
    told = ours.answer(prompts, max_new_tokens=30)
    assert [(one.text, one.tokens, one.finish_reason) for one in answers] == [
        (one.text, one.tokens, one.finish_reason) for one in told
    ]
    assert {one.finish_reason for one in answers} >= {"length", "no_room"}
