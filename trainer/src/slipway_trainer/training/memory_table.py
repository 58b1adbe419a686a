"""The memory of one process of a stage at its peak, part by part: what of it is on the device, and what in the host's.

Which parts there are at which ZeRO stage was read in DeepSpeed 0.19 and held against measured peaks
(`bench/memory.py`, docs/memory.md). A CPU has one memory, and all of it stands under `device`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from slipway_core.resources.optimizer import Optimizer
from slipway_trainer.training import activations
from slipway_trainer.training.model_shape import ModelSize

if TYPE_CHECKING:
    from slipway_core.resources.stage import Stage
    from slipway_trainer.training.precision import Precision

Offload = Literal["None", "Optimizer", "All"]

FOUR_BIT_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight: 4 bits, a byte of scale for 64, and a float32 that 256 of these share (Dettmers et al. 2023)."""
_IN_8_BITS = 2.03
"""Bytes of AdamW8bit's two moments of a weight, with the scales of its blocks; measured with bitsandbytes 0.50."""
REDUCE_BUCKET = 100_000_000
"""Numbers that DeepSpeed is told to reduce at once: 400 MB of float32 keep every network busy, and by itself it has up
to three buffers of five times as much."""
PLAIN_BUCKET = 500_000_000
"""The same without ZeRO, where it cannot be told."""
FILE = 5_000_000_000
"""Bytes of weights that the end of a stage has at once: a file's. That of `model.model_files`, which imports torch."""
PREFETCHED = 50_000_000
"""Weights that ZeRO-3 gathers ahead of their use."""
LIVE = 1_000_000_000
"""Weights that ZeRO-3 keeps gathered, where they are used again within as many."""
PROCESS = 870 << 20
"""Of a process on a CPU that trains next to nothing: Python, torch, DeepSpeed and transformers. 360 MiB of it are files
of libraries, which processes share."""
PROCESS_OF_GPU = 3 << 30
"""The same in the host's memory where torch has CUDA's libraries."""
CONTEXT = 600 << 20
"""On the GPU: CUDA's context and kernels, and NCCL's buffers."""

CERTAIN = ("weights", "master weights", "optimizer", "gradients")
"""Parts that are as large as they are told, whatever is done with them."""


@dataclass(frozen=True)
class Setup:
    """What a stage is trained with."""

    device: str
    """cpu or cuda."""
    precision: Precision
    world: int
    zero_stage: int
    micro_batch: int
    gradient_checkpointing: bool
    offload: Offload = "None"

    @property
    def shards(self) -> int:
        return max(1, self.world)


@dataclass(frozen=True)
class Part:
    name: str
    device: int = 0
    """Bytes."""
    host: int = 0
    """Bytes of the host's memory; 0 on a CPU, which is one with it."""


@dataclass(frozen=True)
class MemoryTable:
    """Parts that are there at the same time. Those of no bytes are left out."""

    parts: tuple[Part, ...]

    @property
    def device(self) -> int:
        return sum(part.device for part in self.parts)

    @property
    def host(self) -> int:
        return sum(part.host for part in self.parts)

    @property
    def certain_device(self) -> int:
        return sum(part.device for part in self.parts if part.name in CERTAIN)

    @property
    def certain_host(self) -> int:
        return sum(part.host for part in self.parts if part.name in CERTAIN)

    def of(self, name: str) -> Part:
        """Returns a part; one of no bytes where it is not there."""
        return next((part for part in self.parts if part.name == name), Part(name))


def of_stage(size: ModelSize, stage: Stage, setup: Setup) -> MemoryTable:
    """Returns the table of a stage that is trained so."""
    tokens = setup.micro_batch * stage.max_length
    return _merged(
        [
            Part("process", *((PROCESS, 0) if setup.device == "cpu" else (CONTEXT, PROCESS_OF_GPU))),
            *_state(size, stage.optimizer, setup),
            *_buffers(size, setup),
            Part(
                "activations",
                activations.of_blocks(size, setup.precision, tokens, checkpointing=setup.gradient_checkpointing),
            ),
            Part("output layer", activations.of_output(size, setup.precision, tokens, setup.device)),
            _kept_by_allocator(size, setup, tokens),
            _checkpoint(size, stage.optimizer, setup),
            _written(size, setup),
        ]
    )


def _merged(parts: list[Part]) -> MemoryTable:
    return MemoryTable(tuple(part for part in parts if part.device or part.host))


def moment_bytes(size: ModelSize, optimizer: Optimizer) -> int:
    """Returns bytes of an optimizer's moments of all trained weights: two of 4 a weight, unless it has smaller ones.

    AdamW8bit has embeddings in 32 bits, and Muon one moment of its matrices, which embeddings and the experts of one
    tensor are not. With an adapter neither trains embeddings.
    """
    whole = size.trainable == size.parameters
    embedding = min(size.embedding, size.trainable) if whole else 0
    if optimizer.name == "AdamW8bit":
        return int(8 * embedding + _IN_8_BITS * (size.trainable - embedding))
    if optimizer.name == "Muon":
        # The output layer is as large as the embedding, where it is not the same.
        others = (1 if size.tied else 2) * embedding + size.stacked
        return 4 * size.trainable + 4 * min(others, size.trainable)
    return 8 * size.trainable


def weight_bytes(size: ModelSize, precision: Precision) -> int:
    """Returns bytes of all weights as the model computes with them."""
    in_full = size.parameters - size.four_bit_weights
    return activations.width(precision) * in_full + int(FOUR_BIT_BYTES * size.four_bit_weights)


def state_bytes(size: ModelSize, precision: Precision, zero_stage: int, world: int, optimizer: Optimizer) -> int:
    """Returns bytes of weights, gradients, master weights and the optimizer's moments that one process holds."""
    setup = Setup("cpu", precision, world, zero_stage, 1, gradient_checkpointing=False)
    return sum(part.device for part in _state(size, optimizer, setup))


def _state(size: ModelSize, optimizer: Optimizer, setup: Setup) -> list[Part]:
    """Returns what is there from the first step to the last.

    ZeRO (Rajbhandari et al. 2020) divides moments and masters (1), gradients (2) and weights (3) by the number of
    processes.
    """
    zero, shards = setup.zero_stage, setup.shards
    weights = weight_bytes(size, setup.precision) // (shards if zero >= 3 else 1)
    masters = _master_width(setup) * size.trainable // (shards if zero >= 1 else 1)
    moments = moment_bytes(size, optimizer) // (shards if zero >= 1 else 1)
    return [
        _placed("weights", weights, setup, off=setup.offload == "All"),
        _placed("master weights", masters, setup, off=setup.offload != "None"),
        _placed("optimizer", moments, setup, off=setup.offload != "None"),
        _gradients(size, setup),
    ]


def _gradients(size: ModelSize, setup: Setup) -> Part:
    """Returns where gradients are added up; of an optimizer in the host's memory, this process's piece lies there in
    float32."""
    zero = setup.zero_stage
    count = gradient_width(setup.precision, zero) * size.trainable // (setup.shards if zero >= 2 else 1)
    if setup.offload == "None" or setup.device == "cpu":
        return Part("gradients", count)
    return Part("gradients", count if zero < 2 else 0, 4 * size.trainable // setup.shards)


def _placed(name: str, count: int, setup: Setup, *, off: bool) -> Part:
    return Part(name, host=count) if off and setup.device != "cpu" else Part(name, count)


def _master_width(setup: Setup) -> int:
    """Returns bytes of a weight's copy that the optimizer works on: in float32 it needs none but under ZeRO 1 and 2,
    whose pieces are one flat tensor, and where it is offloaded."""
    if setup.precision != "FP32":
        return 4
    return 4 if setup.zero_stage in (1, 2) or setup.offload != "None" else 0


def gradient_width(precision: Precision, zero_stage: int) -> int:
    """Returns bytes of a gradient as it is added up: ZeRO 1 and 2 add up those of bfloat16 in float32."""
    return 4 if precision == "FP32" or (precision == "BF16" and zero_stage in (1, 2)) else 2


def _buffers(size: ModelSize, setup: Setup) -> list[Part]:
    """Returns what the reduction of gradients takes beside them, and what ZeRO-3 gathers."""
    zero, trained = setup.zero_stage, size.trainable
    gradient = gradient_width(setup.precision, zero)
    if zero == 0:
        # All gradients of a bucket as one tensor; one process reduces nothing. Afterwards the step takes those of half
        # precision in float32, all at once (`unfused_optimizer.py`).
        whole = gradient * min(PLAIN_BUCKET, trained) if setup.world > 1 else 0
        return [Part("reduction buffers", max(whole, 0 if setup.precision == "FP32" else 4 * trained))]
    if zero == 3:
        return [
            Part("reduction buffers", _reduced_in_pieces(size, setup)),
            Part("gathered weights", _gathered(size, setup)),
        ]
    # The new weights of an optimizer in the host's memory, on their way back.
    back = 0 if setup.offload == "None" else activations.width(setup.precision) * trained // setup.shards
    return [Part("reduction buffers", _reduced(size, setup)), _placed("offload buffers", back, setup, off=True)]


def _reduced(size: ModelSize, setup: Setup) -> int:
    """Returns bytes of ZeRO 1 and 2 (`stage_1_and_2.py`).

    Gradients move into a bucket, of which a GPU has a second one to fill while the first is reduced. Where there are
    several pieces, a bucket is laid together once more for that; after it, the gradients of this process's piece move
    into a tensor of their own.
    """
    gradient = gradient_width(setup.precision, setup.zero_stage)
    bucket = gradient * min(REDUCE_BUCKET, size.trainable)
    # That of an optimizer in the host's memory is there.
    piece = 0 if setup.offload != "None" else gradient * size.trainable // setup.shards
    overlapped = setup.device != "cpu" and setup.world > 1
    # A weight that is larger than a bucket, as embeddings may be, is reduced by itself.
    laid_together = max(bucket, gradient * min(size.embedding, size.trainable)) if setup.world > 1 else 0
    return bucket * (2 if overlapped else 1) + max(laid_together, piece)


def _reduced_in_pieces(size: ModelSize, setup: Setup) -> int:
    """Returns bytes of ZeRO-3 (`stage3.py`): a bucket of whole gradients, and once more what is scattered of it."""
    bucket = gradient_width(setup.precision, 3) * min(REDUCE_BUCKET, size.trainable)
    # What moved into the bucket is free, but the C library of a CPU keeps blocks of less than 32 MiB.
    return bucket * (3 if setup.device == "cpu" else 2)


def _gathered(size: ModelSize, setup: Setup) -> int:
    """Returns bytes of weights that ZeRO-3 has whole for a while: those that are used again soon stay, and those that
    come next are there twice until they are in place."""
    if setup.shards == 1 and setup.offload != "All":
        return 0
    return activations.width(setup.precision) * (min(LIVE, size.parameters) + min(PREFETCHED, size.parameters))


def _kept_by_allocator(size: ModelSize, setup: Setup, tokens: int) -> Part:
    """Returns what is free and not given back. Torch keeps it too on a GPU, where all later blocks are made of it."""
    if setup.device != "cpu":
        return Part("kept by the allocator")
    checkpointing = setup.gradient_checkpointing
    count = activations.kept_by_allocator(size, setup.precision, tokens, checkpointing=checkpointing)
    return Part("kept by the allocator", count)


def _checkpoint(size: ModelSize, optimizer: Optimizer, setup: Setup) -> Part:
    """Returns the copy in the host's memory from which a checkpoint is written: what this process saves of weights,
    masters and moments. It is kept for the next one."""
    state = _state(size, optimizer, setup)
    count = sum(part.device + part.host for part in state if part.name in ("master weights", "optimizer"))
    if setup.zero_stage < 3:
        # Of rank 0, which has more than the others.
        count += activations.width(setup.precision) * size.trainable
    elif setup.precision == "FP32":
        # The pieces of the weights are the masters.
        count += 4 * size.trainable // setup.shards
    return Part("checkpoint's copy", count) if setup.device == "cpu" else Part("checkpoint's copy", host=count)


def _written(size: ModelSize, setup: Setup) -> Part:
    """Returns what the end of a stage takes beside: the weights of one file, or all of an adapter's, on rank 0."""
    count = activations.width(setup.precision) * size.trainable
    count = count if size.adapted else min(count, FILE)
    # On a CPU the gradients, which are gone by then, were no smaller.
    return Part("weights as written") if setup.device == "cpu" else Part("weights as written", host=count)
