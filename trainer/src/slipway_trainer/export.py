"""Writes the model as it is judged and served: one folder, complete or absent, named by its digest.

The same weights give the same files, byte for byte; only the manifest, which the digest leaves out, holds a time.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import ArtifactStatus
from slipway_trainer.model import exported_model, lineage, stage_model
from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.step import disk_space
from slipway_trainer.step.errors import BadArtifact, BadExport
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.files import sync_folder, sync_tree, write_atomically
from slipway_trainer.step.progress import Reporter
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import resolved

SHARD_SIZE = "5GB"
SPARE_BYTES = 64 << 20
"""Beside the weights: tokenizer, configuration, manifest, and some air."""
SAMPLE_ROWS, SAMPLE_LENGTH = 2, 64
LOGIT_TOLERANCE = 1e-3
"""Largest difference, as a share of the largest logit, between the model in memory and the one that was written.
Both compute with the same weights and the same code, so anything above rounding is a lost or doubled weight."""
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")
DEFAULT_SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95}
# What transformers adds when a tokenizer comes from a folder: about this machine, and part of the digest if kept.
_LOCAL_FIELDS = ("is_local", "local_files_only", "name_or_path")


def run(plan: Plan, workspace: Workspace, *, attempt: int) -> StepResult:
    """Exports what the last stage ended with; an artifact of an earlier attempt that is whole is kept.

    Raises BadModel when a stage has not ended, NoSpace before anything is written, and BadExport when what was
    written does not compute what the model in memory computes.
    """
    reporter = Reporter("export")
    reporter.serve()
    try:
        return _run(plan, workspace, attempt, reporter)
    finally:
        reporter.close()


def write_model(model: PreTrainedModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes weights, configuration and tokenizer in the format of Hugging Face. The folder must not exist.

    Tied weights are written once. `generation_config.json` lists every token that ends an answer: vLLM takes
    `eos_token_id` from there and stops at each of them (`SamplingParams.update_from_generation_config`).
    """
    folder.mkdir(parents=True)
    model.config.use_cache = True
    model.generation_config = _generation_config(model, words)
    model.save_pretrained(str(folder), max_shard_size=SHARD_SIZE)
    tokenizer.save(words, folder)
    _drop_local_fields(folder / "tokenizer_config.json")


def sample_logits(model: PreTrainedModel) -> torch.Tensor:
    """Returns the logits of fixed random tokens, float32 [rows, length, vocabulary], on the CPU."""
    config = model.config.get_text_config()
    length = min(SAMPLE_LENGTH, getattr(config, "max_position_embeddings", None) or SAMPLE_LENGTH)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.vocab_size, (SAMPLE_ROWS, length), generator=generator)
    with torch.inference_mode():
        return model.eval()(input_ids=tokens.to(model.device), use_cache=False).logits.float().cpu()


def check_written(folder: Path, expected: torch.Tensor, dtype: torch.dtype, *, trust_remote_code: bool = False) -> None:
    """Loads what was written as a server would, and compares its logits with those of the model in memory.

    Raises BadExport when they differ: then a weight was lost, emptied (DeepSpeed#7900) or written twice.
    """
    try:
        found = sample_logits(exported_model.load(folder, dtype=dtype, trust_remote_code=trust_remote_code).model)
    except BadArtifact as error:
        raise BadExport(f"what was written cannot be loaded: {error}") from None
    if found.shape != expected.shape:
        raise BadExport(f"what was written has logits of shape {list(found.shape)}, the model {list(expected.shape)}")
    # NaN on both sides is the model's own trouble: its evaluation is inconclusive, and no gate passes it.
    both = found.isnan() & expected.isnan()
    difference = (found - expected).abs().masked_fill(both | (found == expected), 0.0)
    largest, scale = float(difference.max()), float(torch.nan_to_num(expected).abs().max())
    if not largest <= LOGIT_TOLERANCE * max(1.0, scale):
        raise BadExport(
            f"what was written does not compute what the trained model computes: its logits differ by {largest:.3g} "
            f"(the largest logit is {scale:.3g}). This is a bug in the export; the artifact was not published"
        )


def _run(plan: Plan, workspace: Workspace, attempt: int, reporter: Reporter) -> StepResult:
    fence = Fence(workspace.fence("export"), attempt)
    stages = lineage.stages(plan, workspace)
    _clear(workspace)
    manifest = _finished(plan, workspace, stages, reporter)
    if manifest is None:
        manifest = _export(plan, workspace, fence, attempt, stages, reporter)
    size = sum(entry.size for entry in manifest.files.values())
    return StepResult(
        step="export",
        attempt=attempt,
        metrics={"bytes": float(size), **{k: v for k, v in manifest.metrics.items() if k == "parameters"}},
        artifact=ArtifactStatus(uri=f"file://{workspace.artifact.resolve()}", digest=manifest.digest),
    )


def _export(
    plan: Plan, workspace: Workspace, fence: Fence, attempt: int, stages: dict[str, Any], reporter: Reporter
) -> Manifest:
    dtype = _dtype(plan, workspace)
    reporter.say("loading the trained model, adapters merged")
    model = stage_model.load_final(plan, workspace)
    words = tokenizer.load(workspace)
    cast_weights(model, dtype)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _require_space(workspace.root, parameters * dtype.itemsize)
    if warning := exported_model.head_size_warning(model.config.get_text_config()):
        reporter.warn(warning)
    expected = sample_logits(model)
    reporter.say(f"writing {parameters:,} parameters in {str(dtype).removeprefix('torch.')}")
    folder = workspace.root / f"artifact.tmp-{attempt}"
    write_model(model, words, folder)
    reporter.say("checking what was written")
    # Freed before the check loads it again, so that a model needs its own size of memory once.
    del model
    check_written(folder, expected, dtype, trust_remote_code=plan.model.trust_remote_code)
    manifest = artifact.build(
        folder,
        run=plan.run.name,
        plan_digest=plan.digest,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        data=lineage.data(workspace),
        metrics={"parameters": float(parameters), **lineage.metrics(stages)},
        lineage={
            "base": lineage.base(plan, workspace),
            "stages": stages,
            "dtype": str(dtype).removeprefix("torch."),
            "libraries": lineage.libraries(),
            **({"warnings": [warning]} if warning else {}),
        },
    )
    write_atomically(folder / artifact.MANIFEST, artifact.dump(manifest))
    _publish(folder, workspace, fence, attempt)
    return manifest


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
    sync_folder(workspace.root)
    _clear(workspace)


def _clear(workspace: Workspace) -> None:
    """Removes what attempts that were killed have left."""
    for pattern in ("artifact.tmp-*", "artifact.old-*"):
        for folder in workspace.root.glob(pattern):
            shutil.rmtree(folder)


def _dtype(plan: Plan, workspace: Workspace) -> torch.dtype:
    """bfloat16 when the last stage was trained in it; float32 otherwise, so that nothing that was learned is lost."""
    decided = resolved.read(workspace.stage(plan.stages[-1].name).resolved)
    return torch.bfloat16 if decided is not None and decided.precision == "BF16" else torch.float32


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


def _generation_config(model: PreTrainedModel, words: PreTrainedTokenizerFast) -> GenerationConfig:
    """Returns the model's own sampling settings or ours, and what ends an answer.

    A limit on the length is left out: vLLM would take it for the most that any request may ask for.
    """
    own = model.generation_config.to_diff_dict() if model.generation_config else {}
    sampling = {name: own[name] for name in SAMPLING if own.get(name) is not None} or DEFAULT_SAMPLING
    if not sampling.get("do_sample"):
        sampling = {name: value for name, value in sampling.items() if name == "repetition_penalty"}
    return GenerationConfig(
        bos_token_id=words.bos_token_id,
        eos_token_id=tokenizer.end_ids(words),
        pad_token_id=words.pad_token_id,
        **sampling,
    )


def _drop_local_fields(path: Path) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in _LOCAL_FIELDS}
    path.write_text(json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
