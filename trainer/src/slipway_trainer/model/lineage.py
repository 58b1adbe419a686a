"""What an artifact was made of, as its manifest says it: base model, data, stages and library versions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, FileEntry
from slipway_core.protocol.workspace import Workspace
from slipway_fetching import model_cache
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step.errors import BadData, BadModel

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "compressed-tensors",
    "peft",
    "bitsandbytes",
    "deepspeed",
    "slipway-trainer",
)
_OF_DATASET = ("uri", "config", "split", "revision", "license")


def libraries() -> dict[str, str]:
    """Returns the installed version of each library that the result may depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def base(plan: Plan, workspace: Workspace) -> dict[str, Any]:
    """Returns where the first stage started: the settings of a new model, or the URI of one and what it held."""
    if plan.model.scratch is not None:
        return {"scratch": plan.model.scratch.to_document()}
    assert plan.model.from_ is not None
    uri = plan.model.from_
    found = {"uri": uri, "digest": digest_of_model(model_folder(uri, fetched=workspace.fetched_models))}
    commit = model_cache.commit(uri, workspace.fetched_models)
    return found | ({"revision": commit} if commit else {})


def base_was(plan: Plan, workspace: Workspace) -> dict[str, Any]:
    """Returns which run made a base model that is an artifact, of what plan, and its digest as that; else nothing."""
    if plan.model.from_ is None:
        return {}
    folder = model_folder(plan.model.from_, fetched=workspace.fetched_models)
    try:
        manifest = artifact.read(folder)
    except ArtifactError:
        return {}
    return {"was": {"run": manifest.run, "plan_digest": manifest.plan_digest, "digest": manifest.digest}}


def identity(folder: Path) -> str:
    """Returns the digest of a model that is judged as it is: that of an artifact, or that of its files."""
    try:
        return artifact.read(folder).digest
    except ArtifactError:
        return digest_of_model(folder)


def stages(plan: Plan, workspace: Workspace) -> dict[str, Any]:
    """Returns what each stage ended with, by name. Raises BadModel when one has not ended."""
    found: dict[str, Any] = {}
    for stage in plan.stages:
        path = workspace.stage(stage.name).done
        try:
            found[stage.name] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadModel(
                f"stage {stage.name} has not ended: {path}: {error}. Start the run again to train it"
            ) from None
    return found


def prepared(workspace: Workspace) -> dict[str, Any]:
    """Returns what `prepare` reported. Raises BadData when it has not ended."""
    try:
        return json.loads(workspace.prepared.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadData(f"{workspace.prepared}: {error}. Start the run again to prepare its data") from None


def data(workspace: Workspace) -> dict[str, str]:
    """Returns the digest of what each stage learned from and was validated on, by `<stage>/<split>`."""
    return digests(prepared(workspace))


def digests(report: Mapping[str, Any]) -> dict[str, str]:
    """Returns the same of a report of prepare."""
    return {
        f"{stage}/{split}": details["digest"]
        for stage, splits in report.get("stages", {}).items()
        for split, details in splits.items()
        if isinstance(details, dict) and "digest" in details
    }


def datasets(workspace: Workspace) -> list[dict[str, Any]]:
    """Returns the datasets of the hub that were read, each with its commit and the digest of its files."""
    report = prepared(workspace)
    parts = [split for splits in report["stages"].values() for split in splits.values()]
    files = [file for part in (*parts, report["evaluation"], report["prompts"]) for file in part.get("files", ())]
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for file in files:
        if "revision" in file:
            found.setdefault(tuple(file.get(name, "") for name in _OF_DATASET), {})[file["name"]] = file
    return [
        {name: value for name, value in zip(_OF_DATASET, key, strict=True) if value}
        | {"bytes": sum(file["bytes"] for file in own.values()), "digest": _digest_of(own)}
        for key, own in found.items()
    ]


def metrics(stages: dict[str, Any]) -> dict[str, float]:
    """Returns the finite figures with which each stage ended, by `<stage>/<metric>`."""
    return {
        f"{stage}/{name}": float(value)
        for stage, done in stages.items()
        for name, value in (done.get("metrics") or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _digest_of(files: dict[str, dict[str, Any]]) -> str:
    return artifact.digest_of(
        {name: FileEntry(size=file["bytes"], sha256=file["sha256"]) for name, file in files.items()}
    )


def digest_of_model(folder: Path) -> str:
    """Returns the digest of the files that a model is loaded from. The card of an artifact is none of them."""
    apart = (artifact.MANIFEST, *([artifact.CARD] if (folder / artifact.MANIFEST).is_file() else []))
    files = {
        path.name: artifact.hash_file(path)
        for pattern in artifact.MODEL_FILES
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.name not in apart
    }
    return artifact.digest_of(files)
