"""What a push brings to a public place names no place of a machine, a bucket, a claim or a server."""

from __future__ import annotations

from typing import Any

import pytest

from slipway_core.protocol.artifact import Manifest
from slipway_trainer.card.public_manifest import public

DIGEST = "sha256:" + "a" * 64


def of(**lineage: Any) -> dict[str, Any]:
    manifest = Manifest(
        digest=DIGEST, files={}, run="demo", plan_digest=DIGEST, created_at="2026-01-01T00:00:00Z", lineage=lineage
    )
    found = public(manifest)
    assert found.model_copy(update={"lineage": lineage}) == manifest
    return found.lineage


PLACES = [
    "file:///home/ada/secret-project/base",
    "s3://secret-project/base",
    "gs://secret-project/base/",
    "pvc://secret-project/base",
    "https://secret-project.example/base",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_goes_by_the_last_part_of_its_name(place: str) -> None:
    was = {"run": "earlier", "digest": DIGEST}
    found = of(
        base={"uri": place, "digest": DIGEST, "was": was},
        passages={"rate": 1.0, "base_unknown": place},
        adapter={"method": "LoRA", "base": {"uri": place, "digest": DIGEST}},
        warnings=[place],
    )
    assert found == {
        "base": {"name": "base", "digest": DIGEST, "was": was},
        "passages": {"rate": 1.0, "base_unknown": "base"},
        "adapter": {"method": "LoRA", "base": {"name": "base", "digest": DIGEST}},
        "warnings": ["base"],
    }


def test_names_that_mean_the_same_everywhere_stay() -> None:
    base = {"uri": "hf://org/base", "revision": "0123abc", "digest": DIGEST}
    data = [{"name": "package://tang", "rows": 3}, {"name": "hf://datasets/org/rows"}]
    assert of(base=base, card={"data": data}) == {"base": base, "card": {"data": data}}


def test_the_tokenizer_that_a_new_model_took_goes_by_its_name() -> None:
    scratch = {"layers": 3, "tokenizer": {"from": "file:///home/ada/tokenizer"}}
    assert of(base={"scratch": scratch}) == {"base": {"scratch": {"layers": 3, "tokenizer": {"from": "tokenizer"}}}}


def test_where_a_tracker_shows_a_stage_is_nobodys_business() -> None:
    stages = {"sft": {"metrics": {"loss": 1.0}, "progress": {"step": 3, "links": {"mlflow": "http://mlflow.corp/1"}}}}
    assert of(stages=stages) == {"stages": {"sft": {"metrics": {"loss": 1.0}, "progress": {"step": 3}}}}
