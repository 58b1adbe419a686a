"""The sample of what a model has learned from, in its artifact: of this run's data, and of its base model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError
from slipway_core.protocol.workspace import Workspace
from slipway_host.files import write_atomically
from slipway_trainer.data import passage_sample
from slipway_trainer.data.passage_sample import PassageSample
from slipway_trainer.data.text import units
from slipway_trainer.model.model_folder import model_folder

KNOWN_SHARE = 0.5
"""Of a document's passages that are looked up: what `overlap` calls contained."""
ENOUGH = 3
"""Passages of a document that have to be looked up, of all that it has where it has fewer."""
UNKNOWN: dict[str, Any] = {}
"""What the lineage says where a preparation of an earlier release left no sample."""


def write(plan: Plan, workspace: Workspace, folder: Path) -> dict[str, Any]:
    """Writes the sample into the folder of an artifact; returns what its lineage says of it.

    A base model without one has learned from something that nobody can look up, and the lineage says so.
    """
    own = _read(workspace.root)
    if own is None:
        return UNKNOWN
    uri = plan.model.from_
    found, unknown = own, None
    if uri is not None:
        base = model_folder(uri, fetched=workspace.fetched_models)
        learned = _read(base)
        found = own if learned is None else own.joined(learned)
        # A model of a run knows what that run has learned; what that one began with may be known to nobody.
        unknown = uri if learned is None else base_unknown(base, otherwise=uri)
    write_atomically(folder / passage_sample.NAME, found.to_bytes())
    return {"rate": found.rate, "base_unknown": unknown}


def look_up(sample: PassageSample, documents: list[str]) -> tuple[int, list[int]]:
    """Returns how many documents could be looked up in what a model has learned, and the numbers of those that it
    knows, from 0."""
    looked_up, known = 0, list[int]()
    for number, text in enumerate(documents):
        split = units(text)
        passages = passage_sample.of([split], sample.below)
        if len(passages) < min(ENOUGH, max(len(split) - passage_sample.PASSAGE + 1, 1)):
            continue
        looked_up += 1
        if sample.known(passages) >= KNOWN_SHARE * len(passages):
            known.append(number)
    return looked_up, known


def base_unknown(folder: Path, otherwise: str | None = None) -> str | None:
    """Returns the URI of the model that an artifact comes from in the end, where nobody can say what that has learned.

    Args:
        otherwise: what is returned of a folder that has no manifest.
    """
    try:
        return artifact.read(folder).lineage.get("passages", {}).get("base_unknown")
    except ArtifactError:
        return otherwise


def _read(folder: Path) -> PassageSample | None:
    try:
        return passage_sample.read(folder)
    except ValueError:
        return None
