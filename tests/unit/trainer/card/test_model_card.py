"""A card says what the manifest says: nothing of a machine, no verdict that nobody gave, no markup of strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.trainer.trained_run import make_run

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.judged import Judged, JudgedMetric
from slipway_core.resources.status import Verdict
from slipway_trainer import export
from slipway_trainer.card import model_card

HEX = "a" * 64
CHAT = {"objective": "Chat", "adapter": {"method": "LoRA", "rank": 4}, "optimizer": {"learningRate": 0.0002}}
DATA = {"stage": "sft/train", "name": "hf://datasets/org/rows", "files": 2, "sha256": HEX, "license": "mit", "rows": 7}
PASSED = Judged(
    number=1,
    verdict=Verdict.PASS,
    scored_tokens=1234,
    data_digest=f"sha256:{HEX}",
    metrics=[
        JudgedMetric(name="perplexity", value=9.5, threshold="max 20", verdict=Verdict.PASS),
        JudgedMetric(name="bits_per_byte", threshold="max regression 0.02", verdict=Verdict.NOT_APPLICABLE),
    ],
)


def a_manifest(*, base: dict[str, Any] | None = None, data: dict[str, Any] = DATA, **lineage: Any) -> Manifest:
    said = {"hub": "org/base", "license": "apache-2.0"} if base is None else base
    card = {"base": said, "stages": {"sft": CHAT}, "data": [data], "held_out": f"sha256:{HEX}"}
    return Manifest(
        digest=f"sha256:{HEX}",
        files={},
        run="poems",
        plan_digest=f"sha256:{HEX}",
        created_at="2026-01-02T03:04:05Z",
        metrics={"parameters": 1500.0, "sft/loss": 1.25, "sft/validation_loss": 1.5, "sft/seconds": 77.0},
        lineage={
            "base": {"uri": "hf://org/base", "digest": f"sha256:{HEX}", "revision": "0123abc"},
            "dtype": "bfloat16",
            "libraries": {"torch": "2.13.0"},
            model_card.FACTS: card,
            **lineage,
        },
    )


def read(manifest: Manifest, judged: Judged | None = None) -> tuple[dict[str, Any], str]:
    card = model_card.render(manifest, judged)
    assert card is not None
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_it_says_what_the_model_was_made_of() -> None:
    front, body = read(a_manifest())
    assert front == {
        "base_model": "org/base",
        "base_model_relation": "finetune",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["slipway", "conversational", "lora"],
        "datasets": ["org/rows"],
    }
    for said in (
        "# poems", "1,500 parameters in bfloat16", "commit `0123abc`", "Licence of the base: apache-2.0",
        "| sft/train | hf://datasets/org/rows | 7 | mit |", f"`{HEX}` of those of 2 files", "| training loss | 1.25 |",
        "| validation loss | 1.5 |", "| `optimizer.learningRate` | 0.0002 |", "| `adapter.rank` | 4 |",
        "apply_chat_template", "before its gates were asked",
    ):  # fmt: skip
        assert said in body
    assert "77" not in body, "how fast a machine was is not of the model"
    assert "2026" not in body
    assert "model-index" not in front


def test_the_verdict_is_in_the_one_that_is_pushed() -> None:
    front, body = read(a_manifest(), PASSED)
    [index] = front["model-index"]
    [result] = index["results"]
    assert index["name"] == "poems"
    assert result["task"] == {"type": "text-generation"}
    assert result["metrics"] == [{"type": "perplexity", "value": 9.5, "name": "perplexity (max 20)"}]
    assert "Verdict: **Pass**, with 1,234 scored tokens" in body
    assert "| perplexity | 9.5 | max 20 | Pass |" in body
    assert "| bits_per_byte | not measured | max regression 0.02 | NotApplicable |" in body
    assert "before its gates were asked" not in body


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:///home/somebody/words", "tokenizer.from words)"),
        ("s3://a-private-bucket/of/words/", "tokenizer.from words)"),
        ("hf://org/words", "tokenizer.from hf://org/words)"),
    ],
)
def test_a_new_model_says_no_place_of_the_tokenizer_that_it_took(uri: str, said: str) -> None:
    manifest = a_manifest(base={})
    manifest.lineage["base"] = {"scratch": {"layers": 2, "tokenizer": {"from": uri}}}
    _, body = read(manifest)
    assert f"from random weights (layers 2, {said}" in body
    assert "somebody" not in body
    assert "bucket" not in body


def test_a_licence_that_nobody_named_is_not_invented() -> None:
    front, body = read(a_manifest(base={"name": "folder"}, data={**DATA, "license": "", "name": "rows.jsonl"}))
    assert not front.keys() & {"license", "base_model", "datasets"}
    assert "Licence of the base: its files do not say" in body
    assert "| sft/train | rows.jsonl | 7 | not known |" in body


@pytest.mark.parametrize(
    ("base", "loaded"),
    [
        ({"folder": "base"}, 'AutoModelForCausalLM.from_pretrained("base")'),
        ({"uri": "hf://org/base", "revision": "0123abc"}, 'from_pretrained("org/base", revision="0123abc")'),
        ({"revision": "0123abc", "held": "NF4"}, 'revision="0123abc", quantization_config=held)'),
    ],
)
def test_an_adapter_is_used_on_its_base(base: dict[str, str], loaded: str) -> None:
    front, body = read(a_manifest(adapter={"method": "LoRA", "base": base}))
    assert front["library_name"] == "peft"
    assert front["base_model_relation"] == "adapter"
    assert loaded in body
    assert 'PeftModel.from_pretrained(base, ".")' in body
    assert ("load_in_4bit" in body) == ("held" in base)


def test_a_name_ends_no_cell_and_begins_no_markup() -> None:
    _, body = read(a_manifest(data={**DATA, "name": "a|b\n<script>`[x](y).jsonl"}))
    assert r"| a\|b \<script\>\`\[x\](y).jsonl | 7 |" in body


def test_an_artifact_of_an_earlier_release_has_none() -> None:
    manifest = a_manifest()
    del manifest.lineage[model_card.FACTS]
    assert model_card.render(manifest) is None


def test_the_same_run_writes_the_same_card_on_any_machine_and_its_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "here").export()
    card = run.workspace.artifact / artifact.CARD
    text = card.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "| pretrain/train | train.jsonl | 36 |" in text
    assert artifact.CARD not in artifact.read(run.workspace.artifact).files
    assert artifact.read(run.workspace.artifact).digest in text
    other = make_run(tmp_path / "there").export().workspace.artifact
    plans = (artifact.read(folder).plan_digest for folder in (other, run.workspace.artifact))
    assert (other / artifact.CARD).read_text(encoding="utf-8").replace(*plans) == text
    card.write_text("my own words")
    export.run(run.plan, run.workspace, attempt=2)
    assert card.read_text() == "my own words", "it is no part of what the digest covers"
    monkeypatch.chdir(other)
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.strip()
