"""Writes the model as it is judged and served: one folder, complete or absent, named by its digest.

The same weights of the same data give the same files, byte for byte; only the manifest, which the digest leaves out,
holds a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import uris
from slipway_core.resources.status import ArtifactStatus, Progress, bounded_warnings
from slipway_host.files import sync, sync_tree, write_atomically
from slipway_trainer.card import facts, model_card
from slipway_trainer.data import learned_passages
from slipway_trainer.model import (
    copied_model,
    exported_model,
    four_bits,
    lineage,
    logit_check,
    merge_drift,
    model_files,
    stage_model,
    unmerged_artifact,
)
from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step import disk_space
from slipway_trainer.step.errors import BadModel
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter, Say
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import resolved

SPARE_BYTES = 64 << 20
"""Beside the weights: tokenizer, configuration, manifest, and some air."""


def run(plan: Plan, workspace: Workspace, *, attempt: int) -> StepResult:
    """Exports what the last stage ended with, without stages the base model; an artifact of an earlier attempt that is
    whole is kept.

    Raises BadModel when a stage has not ended, NoSpace before anything is written, and BadExport when what was
    written does not compute what the model in memory computes.
    """
    reporter = Reporter("export")
    with reporter.at_work():
        return _run(plan, workspace, attempt, reporter)


def _run(plan: Plan, workspace: Workspace, attempt: int, reporter: Reporter) -> StepResult:
    fence = Fence(workspace.fence("export"), attempt)
    stages = lineage.stages(plan, workspace)
    _clear(workspace)
    manifest = _finished(plan, workspace, stages, reporter)
    if manifest is None:
        manifest = _export(plan, workspace, fence, attempt, stages, reporter)
    links = _write_gguf(plan, workspace, manifest, fence, reporter)
    size = sum(entry.size for entry in manifest.files.values())
    return StepResult(
        step="export",
        attempt=attempt,
        metrics={"bytes": float(size), **{k: v for k, v in manifest.metrics.items() if k == "parameters"}},
        artifact=ArtifactStatus(uri=f"file://{workspace.artifact.resolve()}", digest=manifest.digest),
        progress=Progress(links=links) if links else None,
        # Of an artifact of an earlier attempt too.
        warnings=bounded_warnings(manifest.lineage.get("warnings", ())) or None,
    )


Quantize = Callable[[Path, torch.dtype, Say], dict[str, Any]]
"""Quantises a model in its folder, and returns what the manifest says of it."""


@dataclass(frozen=True)
class Written:
    """What lies in the folder of the artifact to be."""

    parameters: int
    dtype: str
    lineage: dict[str, Any]
    """What only this way of writing has to say."""
    passages: dict[str, Any] | None = None
    """What the lineage says of the sample of what it learned from, where that is there already."""


def _export(
    plan: Plan, workspace: Workspace, fence: Fence, attempt: int, stages: dict[str, Any], reporter: Reporter
) -> Manifest:
    folder = workspace.root / f"artifact.tmp-{attempt}"
    write = _write_copy if _copies(plan) else _write_adapter if plan.exports_adapter else _write_merged
    written = write(plan, workspace, folder, reporter)
    learned = learned_passages.write(plan, workspace, folder) if written.passages is None else written.passages
    manifest = artifact.build(
        folder,
        run=plan.run.name,
        plan_digest=plan.digest,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        data=lineage.data(workspace),
        metrics={"parameters": float(written.parameters), **lineage.metrics(stages)},
        lineage={
            "base": lineage.base(plan, workspace) | lineage.base_was(plan, workspace),
            "tokenizer": lineage.prepared(workspace)["tokenizer"]["digest"],
            "stages": stages,
            **({"datasets": datasets} if (datasets := lineage.datasets(workspace)) else {}),
            "dtype": written.dtype,
            "libraries": lineage.libraries(),
            "passages": learned,
            model_card.FACTS: facts.collect(plan, workspace),
            **written.lineage,
        },
    )
    if card := model_card.render(manifest):
        write_atomically(folder / artifact.CARD, card)
    write_atomically(folder / artifact.MANIFEST, artifact.dump(manifest))
    _publish(folder, workspace, fence, attempt)
    return manifest


def _copies(plan: Plan) -> bool:
    """Whether the artifact is the base model, byte for byte."""
    return not plan.stages and plan.export.quantization == "None"


def _write_copy(plan: Plan, workspace: Workspace, folder: Path, reporter: Reporter) -> Written:
    """Writes the base model as it is."""
    assert plan.model.from_ is not None
    reporter.say("verifying the model")
    found = copied_model.source(plan, model_folder(plan.model.from_, fetched=workspace.fetched_models))
    prepared = lineage.prepared(workspace).get("base")
    if (now := lineage.identity(found.folder)) != prepared:
        raise BadModel(
            f"model.from: {plan.model.from_}: is no longer the model that prepare found: it has the digest {now}, and "
            f"that had {prepared}. Put it back, or make another run"
        )
    # A model that prepare fetched is this run's alone; in another's folder a link would change with it.
    linked = uris.parse(plan.model.from_).remote
    _require_space(workspace.root, 0 if linked else found.size)
    parameters, dtype = copied_model.parameters(found), copied_model.dtype_of(found)
    config: Any = AutoConfig.from_pretrained(
        str(found.folder), trust_remote_code=plan.model.trust_remote_code, local_files_only=True
    )
    if warning := exported_model.head_size_warning(config.get_text_config()):
        reporter.add_warning(warning)
    reporter.say(f"taking {parameters:,} parameters in {dtype} as they are")
    copied_model.write(found, tokenizer.load(workspace), folder, linked=linked)
    passages = found.manifest.lineage.get("passages", {}) if found.manifest is not None and found.whole else None
    return Written(parameters, dtype, {"warnings": [warning]} if warning else {}, passages)


def _write_merged(plan: Plan, workspace: Workspace, folder: Path, reporter: Reporter) -> Written:
    """Writes one plain model."""
    dtype = _dtype(plan, workspace)
    reporter.say("loading the trained model, adapters merged")
    # What is merged is merged in float32 and rounded once; a model that was trained whole is stored as it is written.
    merges = plan.last_stage is not None and plan.last_stage.adapter is not None
    model = stage_model.load_final(plan, workspace, dtype=torch.float32 if merges else dtype)
    cast_weights(model, dtype)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = parameters * dtype.itemsize
    rounds = plan.export.quantization != "None"
    # A file is quantised beside itself.
    _require_space(workspace.root, weights + (min(weights, model_files.SHARD_SIZE) if rounds else 0))
    if warning := exported_model.head_size_warning(model.config.get_text_config()):
        reporter.add_warning(warning)
    expected = logit_check.sample_logits(model)
    drift = merge_drift.measure(plan, workspace, model, dtype)
    if drift is not None:
        reporter.say(
            f"the merged model's logits differ by at most {drift['largest_difference']:.3g} from those of the 4-bit "
            f"base with its adapter (the largest logit is {drift['largest_logit']:.3g})"
        )
    reporter.say(f"writing {parameters:,} parameters in {_named(dtype)}")
    model_files.write_model(model, tokenizer.load(workspace), folder)
    reporter.say("checking what was written")
    # Freed before the check loads it again, so that a model needs its own size of memory once.
    rounded = _quantization(plan, workspace, model)
    del model
    logit_check.check_written(folder, expected, dtype, trust_remote_code=plan.model.trust_remote_code)
    told: dict[str, Any] = {"warnings": [warning]} if warning else {}
    told |= {"merge_drift": drift} if drift else {}
    told |= {"quantization": rounded(folder, dtype, reporter.say)} if rounded else {}
    return Written(parameters, _named(dtype), told)


def _quantization(plan: Plan, workspace: Workspace, model: PreTrainedModel) -> Quantize | None:
    """Returns what quantises the model once it is written; None where the run does not want it."""
    if plan.export.quantization == "None":
        return None
    from slipway_trainer.quantization import quantize

    return quantize.prepare(plan, workspace, model)


def _write_adapter(plan: Plan, workspace: Workspace, folder: Path, reporter: Reporter) -> Written:
    """Writes the adapter of the last stage, and says what it stands on."""
    dtype = _dtype(plan, workspace)
    reporter.say("loading the trained model with its adapter")
    trained: Any = stage_model.load_as_trained(plan, workspace, plan.stages[-1].name, dtype=dtype)
    expected = logit_check.sample_logits(trained)
    parameters = sum(map(four_bits.weights_in, trained.parameters()))
    del trained
    reporter.say("writing the adapter")
    base = unmerged_artifact.write(plan, workspace, folder, dtype, lambda size: _require_space(workspace.root, size))
    reporter.say("checking what was written")
    fetched = workspace.fetched_models
    logit_check.check_loaded(lambda: unmerged_artifact.load(plan, folder, fetched, dtype=dtype), expected)
    told = {"adapter": {"method": plan.stages[-1].adapter.method, "base": base}}  # type: ignore[union-attr]
    return Written(parameters, _named(dtype), told)


def _write_gguf(
    plan: Plan, workspace: Workspace, manifest: Manifest, fence: Fence, reporter: Reporter
) -> dict[str, str] | None:
    """Writes the download beside the artifact, where the run wants it, and returns where people find it."""
    wanted = plan.export.gguf
    if wanted == "None":
        return None
    # It has a library of its own, which nobody else waits for.
    from slipway_trainer.gguf import write

    folder = write.write(workspace, manifest, wanted, fence, reporter.say)
    reporter.log(f"gguf: {folder}")
    return {"gguf": f"file://{folder.resolve()}"}


def _finished(plan: Plan, workspace: Workspace, stages: dict[str, Any], reporter: Reporter) -> Manifest | None:
    """Returns the manifest of an artifact that an attempt before this one has published; None to write it again."""
    if not workspace.artifact.exists():
        return None
    try:
        manifest = artifact.verify(workspace.artifact)
    except ArtifactError as error:
        reporter.say(f"the artifact that is there is written again: {error}")
        return None
    same = manifest.plan_digest == plan.digest and manifest.lineage.get("stages") == stages
    return manifest if same else None


def _publish(folder: Path, workspace: Workspace, fence: Fence, attempt: int) -> None:
    """Puts the written folder in its place. Killed in between, the next attempt finds no artifact and writes it."""
    sync_tree(folder)
    fence.check()
    if workspace.artifact.exists():
        workspace.artifact.rename(workspace.root / f"artifact.old-{attempt}")
    folder.rename(workspace.artifact)
    sync(workspace.root)
    _clear(workspace)


def _clear(workspace: Workspace) -> None:
    """Removes what attempts that were killed have left."""
    for pattern in ("artifact.tmp-*", "artifact.old-*"):
        for folder in workspace.root.glob(pattern):
            shutil.rmtree(folder)


def _dtype(plan: Plan, workspace: Workspace) -> torch.dtype:
    """bfloat16 when the last stage was trained in it; float32 otherwise, so that nothing that was learned is lost.
    Without a stage, that of the base."""
    if plan.last_stage is None:
        assert plan.model.from_ is not None
        folder = model_folder(plan.model.from_, fetched=workspace.fetched_models)
        return getattr(torch, copied_model.dtype_of(copied_model.source(plan, folder)), torch.float32)
    decided = resolved.read(workspace.stage(plan.last_stage.name).resolved)
    return torch.bfloat16 if decided is not None and decided.precision == "BF16" else torch.float32


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _require_space(folder: Path, weights: int) -> None:
    needed = weights + SPARE_BYTES
    disk_space.require(
        folder,
        needed,
        lambda free: (
            f"the artifact takes {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free. "
            "Free space there and start again"
        ),
    )
