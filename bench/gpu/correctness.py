"""Whether what a GPU computes is what it should be: packed rows, the loss in parts, resuming, fp16's scale, compiled
blocks, activations computed twice, and what is kept in the host's memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench.gpu.sizes import Shape
from torch import nn
from torch.nn import functional

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer.batches.collate import Batch
from slipway_trainer.model.attention import set_attention
from slipway_trainer.model.next_token_loss import NextTokenLoss
from slipway_trainer.model.output_loss import OutputLoss
from slipway_trainer.prepare import prepare
from slipway_trainer.step import progress
from slipway_trainer.step.errors import Interrupted
from slipway_trainer.training.process_group import Ranks
from slipway_trainer.training.stage import train_stage

SHAPE = Shape("checked", 2, 256, 4, 2, 512, 1024)
LENGTHS = (5, 70, 33, 128, 20)
WITHIN = {"FP32": 1e-4, "BF16": 5e-2}
"""Relative differences that the order of sums makes: of a gradient's norm to that of the difference."""
DTYPES = {"FP32": torch.float32, "BF16": torch.bfloat16}
STEPS = 8
FP16_STEPS = 30
FP16 = "fp16 scales its loss, skips what overflows, and learns as FP32"
COMPILED = "compiled blocks learn as plain ones, BF16"
NEED_GPU = (FP16, COMPILED)
"""On a CPU the first cannot be, and the second takes longer than all others."""


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    found: str


def checks(device: torch.device, folder: Path) -> dict[str, Callable[[], Check]]:
    """Returns the checks by their names; each is made when it is called."""
    made = {
        f"packed rows are unpacked ones, {precision}": lambda precision=precision: packed(precision, device)
        for precision in DTYPES
    }
    made |= {
        f"the loss in parts is the plain one, {precision}": lambda precision=precision: in_parts(precision, device)
        for precision in DTYPES
    }
    made |= {
        f"a resumed training is the undisturbed one, bit for bit, {precision}": (
            lambda precision=precision: resumed(folder, precision)
        )
        for precision in DTYPES
    }
    made[FP16] = lambda: fp16(folder)
    made[COMPILED] = lambda: varied(folder / "compiled", {"compile": "Enabled"}, {"compile": "Disabled"}, 2e-2)
    made["activations computed twice change nothing, FP32"] = lambda: varied(
        folder / "twice",
        {"precision": "FP32", "memory": {"gradientCheckpointing": "Enabled"}},
        {"precision": "FP32", "memory": {"gradientCheckpointing": "Disabled"}},
        1e-5,
    )
    for kept, zero in (("Optimizer", 1), ("All", 3)):
        made[f"offload: {kept} learns as without it, BF16"] = lambda kept=kept, zero=zero: varied(
            folder / f"kept-{kept}",
            {"memory": {"offload": kept, "zeroStage": zero}},
            {"memory": {"zeroStage": zero}},
            1e-2,
        )
    return made


def packed(precision: str, device: torch.device) -> Check:
    """Loss and gradients of documents that share a row, beside those of each by itself."""
    torch.manual_seed(0)
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(SHAPE.config(256)).to(device, DTYPES[precision])  # type: ignore[arg-type]
    documents = [torch.randint(3, SHAPE.vocabulary, (length,)) for length in LENGTHS]
    set_attention(model, 256, device)
    attention = str(model.config._attn_implementation)
    loss = NextTokenLoss(model, attention=attention)
    together = loss(_learned(documents).to(device))
    together.backward()
    of_packed = _gradients(model)
    model.set_attn_implementation("sdpa")
    alone = NextTokenLoss(model, attention="sdpa")
    apart = torch.zeros((), device=device)
    for document in documents:
        one = alone(_learned([document]).to(device))
        one.backward()
        apart = apart + one.detach()
    off = abs(together.item() / apart.item() - 1)
    turned = _difference(of_packed, _gradients(model))
    found = f"{attention}: loss off by {off:.1e} of it, gradients by {turned:.1e}"
    return Check("", off < WITHIN[precision] / 10 and turned < WITHIN[precision], found)


def in_parts(precision: str, device: torch.device) -> Check:
    """Loss and gradients of an output layer, made in parts and of all logits at once."""
    torch.manual_seed(0)
    words, tokens = (32_000, 5000) if device.type == "cuda" else (2000, 300)
    layer = nn.Linear(256, words, bias=False, device=device, dtype=DTYPES[precision])
    hidden = torch.randn(1, tokens, 256, device=device, dtype=DTYPES[precision])
    targets = torch.randint(words, (tokens,), device=device)
    # What is true is computed in float64; in half precision both are off.
    exact = [part.detach().double().requires_grad_() for part in (hidden, layer.weight)]
    true = functional.cross_entropy((exact[0] @ exact[1].T)[0], targets, reduction="sum")
    true.backward()
    plain_hidden = hidden.clone().requires_grad_()
    functional.cross_entropy(layer(plain_hidden)[0].float(), targets, reduction="sum").backward()
    of_plain = [_off(plain_hidden.grad, exact[0].grad), _off(layer.weight.grad, exact[1].grad)]
    layer.weight.grad = None
    hidden.requires_grad_()
    places = torch.arange(tokens, device=device)
    loss = OutputLoss(layer, None).of(lambda: layer(hidden), places, targets)
    loss.backward()
    off = abs(loss.item() / true.item() - 1)
    of_parts = [_off(hidden.grad, exact[0].grad), _off(layer.weight.grad, exact[1].grad)]
    # No farther off than the plain one.
    fair = all(mine <= 1.5 * other + 1e-6 for mine, other in zip(of_parts, of_plain, strict=True))
    found = f"loss off by {off:.1e} of it, gradients by {max(of_parts):.1e}, the plain ones by {max(of_plain):.1e}"
    return Check("", off < WITHIN[precision] / 10 and fair, found)


def resumed(folder: Path, precision: str) -> Check:
    """Two trainings on sample texts, one of them stopped in the middle, with deterministic kernels."""
    folder = folder / f"resumed-{precision}"
    if "cuda" in Ranks().device.type and "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
        return Check("", False, "CUBLAS_WORKSPACE_CONFIG is not set")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        whole, parted = (_prepared(folder / name, STEPS, precision=precision) for name in ("whole", "parted"))
        _train(*whole, attempt=1)
        stopped = False
        try:
            _train(*parted, attempt=1, stop=_After(STEPS // 2))
        except Interrupted:
            stopped = True
        _train(*parted, attempt=2)
    finally:
        torch.use_deterministic_algorithms(False)
    losses, again = (_losses(workspace) for _, workspace in (whole, parted))
    weights, same = (_weights(workspace) for _, workspace in (whole, parted))
    steps = sum(a == b for a, b in zip(losses, again, strict=False))
    found = f"{steps} of {STEPS} losses equal, weights {'equal' if weights == same else 'not equal'}"
    return Check("", stopped and losses == again and len(losses) == STEPS and weights == same, found)


def fp16(folder: Path) -> Check:
    """A training on sample texts in fp16, beside the same in FP32."""
    half, full = (_prepared(folder / name, FP16_STEPS, precision=name) for name in ("FP16", "FP32"))
    for one in (half, full):
        _train(*one, attempt=1)
    rows = progress.read(half[1].stage("sft").metrics)
    skipped = sum(row["grad_norm"] is None for row in rows)
    ours, wanted = rows[-1]["loss"], _losses(full[1])[-1]
    passed = len(rows) == FP16_STEPS and skipped < FP16_STEPS // 2 and abs(ours / wanted - 1) < 0.1
    return Check("", passed, f"{skipped} of {FP16_STEPS} steps skipped, last loss {ours:.3f}, in FP32 {wanted:.3f}")


def varied(folder: Path, one: dict[str, Any], other: dict[str, Any], within: float) -> Check:
    """Two trainings on sample texts whose stages differ in what may not change what is learned.

    Args:
        within: how far a loss may be off, of the other one.
    """
    runs = [
        _prepared(folder / str(n), STEPS, **{"precision": "BF16"} | fields) for n, fields in enumerate((one, other))
    ]
    for run in runs:
        _train(*run, attempt=1)
    losses = [_losses(workspace) for _, workspace in runs]
    off = max(abs(ours / wanted - 1) for ours, wanted in zip(*losses, strict=True))
    learned = losses[0][0] - losses[0][-1]
    found = f"a loss off by at most {off:.1e} of it in {STEPS} steps, of {losses[0][0]:.2f} to {losses[0][-1]:.2f}"
    return Check("", off < within and learned > 0, found)


class _After:
    """Asks for the end of a training after so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    @property
    def requested(self) -> bool:
        self._left -= 1
        return self._left < 0


def _learned(documents: list[torch.Tensor]) -> Batch:
    """Returns one row of documents, of which all is learned but the first token of each."""
    row = Batch.of_documents(documents)
    places = torch.arange(row.input_ids.shape[1])
    predicting = places[:-1][row.position_ids[0, 1:] != 0]
    return Batch(row.input_ids, row.position_ids, predicting, row.input_ids[0, predicting + 1], row.lengths)


def _gradients(model: nn.Module) -> torch.Tensor:
    """Returns all of them as one vector, and takes them away."""
    found = torch.cat([weight.grad.reshape(-1).float() for weight in model.parameters() if weight.grad is not None])
    model.zero_grad()
    return found


def _difference(ours: torch.Tensor, others: torch.Tensor) -> float:
    return ((ours - others).norm() / others.norm()).item()


def _off(found: torch.Tensor | None, true: torch.Tensor | None) -> float:
    assert found is not None
    assert true is not None
    return ((found.double() - true).norm() / true.norm()).item()


def _prepared(folder: Path, steps: int, **fields: Any) -> tuple[Plan, Workspace]:
    """Prepares a run on the sample poems, whose stage has these fields beside."""
    stage = {
        "name": "sft",
        "data": {"train": [{"uri": "package://tang"}]},
        "maxLength": 128,
        "steps": steps,
        "batch": {"sequences": 16},
        "optimizer": {"learningRate": 1e-3},
        **fields,
    }
    words = {"train": {"vocabSize": 2048}}
    scratch = {"layers": 2, "hiddenSize": 128, "heads": 2, "maxLength": 128, "tokenizer": words}
    spec = {"model": {"scratch": scratch}, "stages": [stage], "checkpoints": {"everySteps": 100_000}}
    document = {"metadata": {"name": "gpu-check"}, "spec": spec}
    run = TrainingRun.model_validate(document, by_alias=True, by_name=False)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(folder)), uid="gpu-check")
    workspace = Workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)
    return plan, workspace


def _train(plan: Plan, workspace: Workspace, *, attempt: int, stop: Any = None) -> None:
    from slipway_trainer.step.fence import Fence

    Fence(workspace.fence("sft"), attempt).raise_()
    train_stage(plan, workspace, stage="sft", attempt=attempt, ranks=Ranks(), stop=stop or _After(1 << 30))


def _losses(workspace: Workspace) -> list[float]:
    return [row["loss"] for row in progress.read(workspace.stage("sft").metrics)]


def _weights(workspace: Workspace) -> list[bytes]:
    files = sorted(workspace.stage("sft").model.glob("*.safetensors"))
    assert files, "the stage has left no weights"
    return [file.read_bytes() for file in files]
