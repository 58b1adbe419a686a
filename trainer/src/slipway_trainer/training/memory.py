"""What fits: ZeRO stage, micro batch and gradient checkpointing from the sizes of model and memory.

The estimates are rough on purpose and lean to the safe side; when one is wrong all the same, the micro batch is halved
and the stage goes on from its last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.stage import Stage
from slipway_host.limits import available_memory

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from slipway_trainer.training.precision import Precision

USABLE = 0.8
"""Share of the free memory that is planned with; the rest is for what is not estimated."""
CPU_TOKENS = 4096
"""Tokens of a micro batch on a CPU: more are no faster, because the caches are small."""
LARGEST_MICRO_BATCH = 64
_IN_8_BITS = 2.03
"""Bytes of AdamW8bit's two moments of a weight, with the scales of its blocks; measured with bitsandbytes 0.50."""
FOUR_BIT_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight: 4 bits, a byte of scale for 64, and a float32 that 256 of these share."""


@dataclass(frozen=True)
class ModelSize:
    parameters: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    four_bit_weights: int = 0
    """Of all, those that are held in 4 bits."""
    expert_weights: int = 0
    """Of experts with an adapter: they stand in memory once more, with what the adapter adds."""
    in_one_piece: str | None = None
    """Why ZeRO-3 cannot hold the weights in pieces; None where it can."""
    in_pieces: bool = False
    """Whether they are in pieces already."""

    @classmethod
    def of(
        cls,
        config: PretrainedConfig,
        parameters: int,
        trainable: int,
        *,
        four_bit_weights: int = 0,
        expert_weights: int = 0,
        in_one_piece: str | None = None,
        in_pieces: bool = False,
    ) -> ModelSize:
        text = config.get_text_config()
        return cls(
            parameters=parameters,
            trainable=trainable,
            layers=getattr(text, "num_hidden_layers", 1),
            hidden=getattr(text, "hidden_size", 1024),
            intermediate=getattr(text, "intermediate_size", None) or 4 * getattr(text, "hidden_size", 1024),
            vocabulary=getattr(text, "vocab_size", 32000),
            four_bit_weights=four_bit_weights,
            expert_weights=expert_weights,
            in_one_piece=in_one_piece,
            in_pieces=in_pieces,
        )


@dataclass(frozen=True)
class Machine:
    device: str
    """cpu or cuda."""
    free_bytes: int
    """Of one process: what is free, divided by the processes that share it."""
    world: int


@dataclass(frozen=True)
class Choice:
    zero_stage: int
    micro_batch: int
    gradient_checkpointing: bool
    reasons: dict[str, str]
    """Why, by the field of the plan."""


def moment_bytes(size: ModelSize, optimizer: Optimizer) -> int:
    """Returns bytes of an optimizer's moments of all trained weights: two of 4 a weight, unless it has smaller ones.

    AdamW8bit has embeddings in 32 bits, and Muon one moment of its matrices. With an adapter neither trains embeddings.
    """
    whole = size.trainable == size.parameters
    embedding = min(size.vocabulary * size.hidden, size.trainable) if whole else 0
    if optimizer.name == "AdamW8bit":
        return int(8 * embedding + _IN_8_BITS * (size.trainable - embedding))
    if optimizer.name == "Muon":
        # The output layer is as large as the embedding, where it is not the same.
        return 4 * size.trainable + 4 * min(2 * embedding, size.trainable)
    return 8 * size.trainable


def state_bytes(size: ModelSize, precision: Precision, zero_stage: int, world: int, optimizer: Optimizer) -> int:
    """Returns bytes of weights, gradients and the optimizer's state that one process holds.

    In fp32 a trained weight has 4 bytes each of weight and gradient, and its moments. In half precision it has 2 of
    weight, 4 each of gradient and master weight, and its moments. ZeRO (Rajbhandari et al. 2020) divides moments and
    masters (1), gradients (2) and weights (3) by the number of processes. A weight in 4 bits has those and its share of
    two scales (Dettmers et al. 2023).
    """
    weight = 4 if precision == "FP32" else 2
    gradient = 4 * size.trainable
    moments = moment_bytes(size, optimizer)
    # Master weights; in fp32 the flat copy that the optimizer works on.
    masters = 0 if zero_stage == 0 and precision == "FP32" else 4 * size.trainable
    shards = max(1, world)
    weights = weight * (size.parameters - size.four_bit_weights) + int(FOUR_BIT_BYTES * size.four_bit_weights)
    return (
        weights // (shards if zero_stage >= 3 else 1)
        + gradient // (shards if zero_stage >= 2 else 1)
        + (moments + masters) // (shards if zero_stage >= 1 else 1)
    )


def activation_bytes(size: ModelSize, precision: Precision, tokens: int, *, checkpointing: bool) -> int:
    """Returns bytes of what the backward pass needs of `tokens` tokens, attention without a stored matrix.

    About 16 vectors of the hidden size and 4 of the feed-forward size a layer, or one vector a layer and one whole
    layer when activations are computed twice, and logits three times in float32. Experts with an adapter are kept as
    the sum of both until the backward pass has used them, all or those of one layer.
    """
    width = 4 if precision == "FP32" else 2
    layer = tokens * (16 * size.hidden + 4 * size.intermediate) * width
    body = layer + size.layers * tokens * size.hidden * width if checkpointing else size.layers * layer
    experts = size.expert_weights // (max(1, size.layers) if checkpointing else 1) * width
    return body + experts + 3 * 4 * tokens * size.vocabulary


def choose(size: ModelSize, stage: Stage, precision: Precision, machine: Machine, sequences: int) -> Choice:
    """Decides what the plan leaves `Auto`. What does not fit even at its smallest is tried all the same."""
    reasons: dict[str, str] = {}
    usable = int(machine.free_bytes * USABLE)
    zero = _zero_stage(size, stage, precision, machine, usable, reasons)
    room = usable - state_bytes(size, precision, zero, machine.world, stage.optimizer)
    checkpointing = _checkpointing(size, stage, precision, room, reasons)
    micro = _micro_batch(size, stage, precision, machine, room, sequences, checkpointing, reasons)
    return Choice(zero, micro, checkpointing, reasons)


def _zero_stage(
    size: ModelSize, stage: Stage, precision: Precision, machine: Machine, usable: int, reasons: dict[str, str]
) -> int:
    if precision == "FP16" and stage.memory.zero_stage == 0:
        # Its gradients would be divided by a loss scale that the loss was never multiplied by (DeepSpeed 0.19.8).
        reasons["zeroStage"] = "the plan says 0, but DeepSpeed scales an fp16 loss from stage 1 on"
        return 1
    if stage.memory.zero_stage != "Auto":
        reasons["zeroStage"] = "set in the plan"
        return int(stage.memory.zero_stage)
    if stage.memory.offload == "All":
        reasons["zeroStage"] = "memory.offload: All moves weights in pieces"
        return 3
    if size.in_pieces:
        # Decided before they were loaded, by the memory that was free then.
        reasons["zeroStage"] = "weights and optimizer fit a process only in pieces"
        return 3
    # DeepSpeed's ZeRO 1 and 2 add up half-precision gradients in float32, its stage 0 does not, nor does that offload.
    least = 0 if precision == "FP32" and stage.memory.offload == "None" else 1
    if machine.world == 1:
        reasons["zeroStage"] = (
            "one process has nothing to share"
            if stage.memory.offload == "None"
            else "memory.offload: Optimizer needs ZeRO, and one process has nothing else to share"
        )
        return least
    for zero in range(least, 3):
        needed = state_bytes(size, precision, zero, machine.world, stage.optimizer)
        if needed <= usable * 0.7:
            reasons["zeroStage"] = f"{_gib(needed)} of weights and optimizer a process fit into {_gib(usable)}"
            return zero
    if stage.optimizer.name == "Muon":
        reasons["zeroStage"] = f"Muon needs whole matrices, and stage 3, which would fit into {_gib(usable)}, cuts them"
        return 2
    if size.in_one_piece:
        reasons["zeroStage"] = (
            f"weights and optimizer may not fit into {_gib(usable)} a process, but {size.in_one_piece}"
        )
        return 2
    reasons["zeroStage"] = f"weights and optimizer fit into {_gib(usable)} a process only in pieces"
    return 3


def _checkpointing(size: ModelSize, stage: Stage, precision: Precision, room: int, reasons: dict[str, str]) -> bool:
    if stage.memory.gradient_checkpointing != "Auto":
        reasons["gradientCheckpointing"] = "set in the plan"
        return stage.memory.gradient_checkpointing == "Enabled"
    if stage.adapter is not None and stage.adapter.method == "Prefix":
        reasons["gradientCheckpointing"] = "a layer that is computed twice forgets the prefix before it"
        return False
    one_row = activation_bytes(size, precision, stage.max_length, checkpointing=False)
    fits = one_row <= room
    reasons["gradientCheckpointing"] = (
        f"the activations of a row ({_gib(one_row)}) {'fit' if fits else 'do not fit'} into {_gib(room)}"
    )
    return not fits


def _micro_batch(
    size: ModelSize,
    stage: Stage,
    precision: Precision,
    machine: Machine,
    room: int,
    sequences: int,
    checkpointing: bool,
    reasons: dict[str, str],
) -> int:
    if stage.batch.micro_sequences is not None:
        reasons["batch.microSequences"] = "set in the plan"
        return stage.batch.micro_sequences
    mine = -(-sequences // machine.world)
    most = max(1, CPU_TOKENS // stage.max_length) if machine.device == "cpu" else LARGEST_MICRO_BATCH
    micro = 1
    while micro * 2 <= most and micro < mine:
        if activation_bytes(size, precision, micro * 2 * stage.max_length, checkpointing=checkpointing) > room:
            break
        micro *= 2
    micro = min(micro, mine)
    reasons["batch.microSequences"] = f"{mine} rows a process and step, at most {most} at once"
    return micro


def free_bytes(device_type: str, local_world: int) -> int:
    """Returns the free memory of one process: of its GPU, or its share of the machine's or container's."""
    if device_type == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    return available_memory() // max(1, local_world)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
