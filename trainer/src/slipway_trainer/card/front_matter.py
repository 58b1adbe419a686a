"""What stands in front of a card, as the hub reads it: https://huggingface.co/docs/hub/model-cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.judged import Judged, JudgedMetric
from slipway_core.resources import uris
from slipway_core.resources.stage import PROMPT_METHODS
from slipway_trainer.data import licence

TASK = "text-generation"
_HELD_OUT = "Held-out data of the run"


def make(manifest: Manifest, facts: Mapping[str, Any], judged: Judged | None) -> str:
    """Returns the block between its two lines of dashes, and those.

    Args:
        facts: `lineage.card` of the manifest.
        judged: None while nobody has judged the model.
    """
    import yaml

    document: dict[str, Any] = {}
    base: Mapping[str, Any] = facts["base"]
    adapter = "adapter" in manifest.lineage
    if "hub" in base:
        document["base_model"] = base["hub"]
        if adapter or facts["stages"]:
            document["base_model_relation"] = "adapter" if adapter else "finetune"
    document |= {name: base[name] for name in licence.FIELDS if name in base}
    document |= {"library_name": "peft" if adapter else "transformers", "pipeline_tag": TASK}
    document["tags"] = _tags(facts)
    if datasets := _datasets(facts):
        document["datasets"] = datasets
    if judged is not None and (found := [_metric(one) for one in judged.metrics if one.value is not None]):
        held_out = {"name": _HELD_OUT, "type": judged.data_digest or facts["held_out"]}
        result = {"task": {"type": TASK}, "dataset": held_out, "metrics": found}
        document["model-index"] = [{"name": manifest.run, "results": [result]}]
    return f"---\n{yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1 << 16)}---\n"


def _tags(facts: Mapping[str, Any]) -> list[str]:
    stages = facts["stages"].values()
    methods = {method for stage in stages if (method := stage.get("adapter", {}).get("method", "None")) != "None"}
    words = {"prompt-tuning" if method in PROMPT_METHODS else "lora" for method in methods}
    chats = ["conversational"] if any(stage["objective"] == "Chat" for stage in stages) else []
    return ["slipway", *chats, *sorted(words)]


def _datasets(facts: Mapping[str, Any]) -> list[str]:
    """Returns those of the hub: other names would be links to somebody else's."""
    return list(dict.fromkeys(_repositories(facts)))


def _repositories(facts: Mapping[str, Any]) -> Iterator[str]:
    for source in facts["data"]:
        if source["name"].startswith("hf://"):
            yield uris.parse(source["name"]).repository


def _metric(one: JudgedMetric) -> dict[str, Any]:
    return {"type": one.name, "value": one.value, "name": f"{one.title} ({one.threshold})"}
