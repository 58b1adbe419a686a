"""README.md of an artifact: what the model was made of, how, and how it is used, told from the manifest alone.

It holds no time and nothing of a machine, so the same run has the same card. The digest of the model does not cover it:
the one that is pushed says the verdict too, and that of the folder was written before there was one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.judged import Judged
from slipway_core.resources import uris
from slipway_trainer.card import front_matter, usage
from slipway_trainer.card.public_manifest import last_part
from slipway_trainer.data import licence

FACTS = "card"
"""Of the manifest's lineage."""
MARK = "<!-- Written by Slipway. A push writes this file anew as long as this line is in it. -->"
_CURVE = (
    ("loss", "training loss"),
    ("validation_loss", "validation loss"),
    ("steps", "steps"),
    ("selected_step", "weights of step"),
    ("tokens", "tokens trained on"),
)
"""Figures of a stage that are the same wherever and however fast it ran."""


def render(manifest: Manifest, judged: Judged | None = None) -> str | None:
    """Returns the card; None of an artifact whose manifest does not say what a card needs, as an earlier release wrote.

    Args:
        judged: what the gates found; None before they were asked.
    """
    facts = manifest.lineage.get(FACTS)
    if not isinstance(facts, dict):
        return None
    sections = (
        f"{front_matter.make(manifest, facts, judged)}\n{MARK}\n\n# {manifest.run}\n",
        _made_of(manifest, facts),
        _verdict(judged),
        _data(facts),
        _training(manifest, facts),
        usage.section(manifest, facts),
    )
    return "\n".join(section for section in sections if section)


def _made_of(manifest: Manifest, facts: Mapping[str, Any]) -> str:
    parameters = int(manifest.metrics.get("parameters", 0))
    adapter = manifest.lineage.get("adapter")
    what = f"An adapter ({adapter['method']}) and what it stands on" if adapter else "A language model"
    how = "made by Slipway" if facts["stages"] else "judged as it is by Slipway"
    rounded = manifest.lineage.get("quantization")
    layers = f", its linear layers in {rounded['method']} ({rounded['format']})" if rounded else ""
    dtype = manifest.lineage.get("dtype", "an unknown type")
    lines = [
        f"{what}, {parameters:,} parameters in {dtype}{layers}, {how}.",
        "",
        *_base(manifest.lineage.get("base", {}), facts["base"]),
        f"- Model: `{manifest.digest}`",
        f"- Plan: `{manifest.plan_digest}`",
        f"- Libraries: {', '.join(f'{name} {version}' for name, version in manifest.lineage['libraries'].items())}",
    ]
    return "\n".join(lines) + "\n"


def _base(base: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[str]:
    scratch = base.get("scratch")
    if scratch is not None:
        yield f"- Base: none. It was trained from random weights ({', '.join(_flat(_placeless(scratch)))})"
        return
    name = f"[{said['hub']}](https://huggingface.co/{said['hub']})" if "hub" in said else _cell(said["name"])
    commit = f", commit `{base['revision']}`" if "revision" in base else ""
    yield f"- Base: {name}{commit}, `{base['digest']}`"
    if (was := base.get("was")) is not None:
        yield f"- The base was made by the run {_cell(was['run'])}: model `{was['digest']}`"
    yield f"- Licence of the base: {_cell(licence.named(said)) or 'its files do not say'}"


def _placeless(scratch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a new model, with the tokenizer that it took by its name: where that lay is of one
    machine, or of a bucket that is nobody's business."""
    uri = scratch.get("tokenizer", {}).get("from")
    if uri is None or uris.parse(uri).scheme == "hf":
        return dict(scratch)
    return {**scratch, "tokenizer": {"from": last_part(uri)}}


def _verdict(judged: Judged | None) -> str:
    if judged is None:
        return (
            "## Evaluation\n\nThis card was written with the model, before its gates were asked: the verdict stands in "
            "the run, and in the card of a model that was pushed.\n"
        )
    rows = [
        f"| {one.title} | {'not measured' if one.value is None else f'{one.value:.6g}'} | {_cell(one.threshold)} "
        f"| {one.verdict.value} |"
        for one in judged.metrics
    ]
    held_out = f" Held-out data: `{judged.data_digest}`." if judged.data_digest else ""
    table = "\n".join(["| metric | value | gate | verdict |", "|---|---|---|---|", *rows])
    return (
        f"## Evaluation\n\nVerdict: **{judged.verdict.value}**, with {judged.scored_tokens:,} scored tokens.{held_out}"
        f"\n\n{table}\n"
    )


def _data(facts: Mapping[str, Any]) -> str:
    rows = [
        f"| {source['stage']} | {_cell(source['name'])}{_part(source)} | {source.get('rows', '')} "
        f"| {_cell(source.get('license', '')) or 'not known'} | `{source['sha256']}`{_of_files(source)} |"
        for source in facts["data"]
    ]
    if not facts["stages"]:
        return f"## Data\n\nHeld out for the evaluation: `{facts['held_out']}`\n"
    head = ["## Data", "", "| used for | source | rows | licence | SHA-256 |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + f"\n\nHeld out for the evaluation: `{facts['held_out']}`\n"


def _part(source: Mapping[str, Any]) -> str:
    told = [f"{name} {_cell(source[name])}" for name in ("config", "split", "revision") if name in source]
    return f" ({', '.join(told)})" if told else ""


def _of_files(source: Mapping[str, Any]) -> str:
    return "" if source["files"] == 1 else f" of those of {source['files']} files"


def _training(manifest: Manifest, facts: Mapping[str, Any]) -> str:
    if not facts["stages"]:
        return ""
    parts = ["## Training\n"]
    for name, settings in facts["stages"].items():
        ended = [
            f"| {words} | {manifest.metrics[f'{name}/{figure}']:.6g} |"
            for figure, words in _CURVE
            if f"{name}/{figure}" in manifest.metrics
        ]
        parts += [f"### {name}\n", "| ended with | |", "|---|---|", *ended, ""]
        parts += ["| setting | |", "|---|---|", *(f"| `{path}` | {_cell(v)} |" for path, v in _pairs(settings)), ""]
    return "\n".join(parts)


def _pairs(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _pairs(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", ", ".join(map(_word, value if isinstance(value, list) else [value]))


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(settings: Mapping[str, Any]) -> list[str]:
    return [f"{_cell(path)} {_cell(value)}" for path, value in _pairs(settings)]


def _cell(text: str) -> str:
    """Returns a name that others gave as text that is no markup: no cell ends and no link or tag begins in it."""
    words = " ".join(str(text).split())
    return "".join(f"\\{mark}" if mark in "\\|`<>[]*!" else mark for mark in words)
