"""What a model card says beside the rest of the manifest, where it is kept as `lineage.card`: so that the card with the
verdict, which is written later and elsewhere, says the same as the one without.

Nothing of it is of this machine: data and models of the hub go by their names there, samples of Slipway by theirs, and
all else by the last part of its name, with its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import uris
from slipway_core.resources.stage import Stage
from slipway_trainer.card.public_manifest import last_part
from slipway_trainer.data import licence
from slipway_trainer.model import lineage
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.training import resolved

_APART = ("name", "data", "memory")
"""Of a stage: its data has a table of its own, and how it fitted into a device decides nothing that it learned."""


def collect(plan: Plan, workspace: Workspace) -> dict[str, Any]:
    """Returns plain JSON values. Raises BadData when prepare has not ended."""
    report = lineage.prepared(workspace)
    return {
        "base": _base(plan, workspace),
        "stages": {stage.name: _settings(stage, workspace) for stage in plan.stages},
        "data": [
            entry
            for stage in plan.stages
            for split, details in report["stages"][stage.name].items()
            for entry in _sources(f"{stage.name}/{split}", details)
        ],
        "held_out": report["evaluation"]["digest"],
    }


def _base(plan: Plan, workspace: Workspace) -> dict[str, Any]:
    uri = plan.model.from_
    if uri is None:
        return {}
    said = licence.of_model(model_folder(uri, fetched=workspace.fetched_models))
    parsed = uris.parse(uri)
    if parsed.scheme == "hf":
        return {"hub": parsed.repository} | said
    return {"name": last_part(uri)} | said


def _settings(stage: Stage, workspace: Workspace) -> dict[str, Any]:
    document = {name: value for name, value in stage.to_document().items() if name not in _APART}
    batch = document.get("batch", {})
    batch.pop("microSequences", None)
    decided = resolved.read(workspace.stage(stage.name).resolved)
    if decided is not None:
        document["precision"] = decided.precision
        if decided.target_modules and "adapter" in document:
            document["adapter"]["targetModules"] = ",".join(sorted(decided.target_modules))
    return document


def _sources(where: str, details: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rows = {source["uri"]: source["rows"] for source in details.get("sources", ())}
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for file in details.get("files", ()):
        grouped.setdefault(file["uri"], []).append(file)
    for uri, files in grouped.items():
        first = files[0]
        told = {name: first[name] for name in ("config", "split", "revision", "license") if first.get(name)}
        counted = {"rows": rows[uri]} if uri in rows else {}
        entry = {"stage": where, "name": _name(uri, files), "files": len(files), "sha256": _digest(files)}
        yield entry | told | counted


def _name(uri: str, files: Sequence[Mapping[str, Any]]) -> str:
    parsed = uris.parse(uri)
    if parsed.scheme == "hf":
        return str(uris.Uri("hf", parsed.authority, parsed.path, dataset=True, inside=parsed.inside))
    if parsed.scheme == "package":
        return uri
    return last_part(files[0]["name"] if len(files) == 1 else uri)


def _digest(files: Sequence[Mapping[str, Any]]) -> str:
    """Returns the SHA-256 of a file, of several that of the sorted lines of theirs."""
    found = sorted(str(file["sha256"]) for file in files)
    return found[0] if len(found) == 1 else hashlib.sha256("".join(f"{one}\n" for one in found).encode()).hexdigest()
