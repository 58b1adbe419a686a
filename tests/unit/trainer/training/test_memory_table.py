"""The parts of the memory table: which are there when, how large, and on which side."""

from dataclasses import replace
from typing import Any

import pytest

from slipway_core.resources.data import StageData
from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.stage import Stage
from slipway_trainer.model import model_files
from slipway_trainer.training import activations
from slipway_trainer.training.memory_table import CONTEXT, FILE, MemoryTable, Setup, moment_bytes, of_stage, state_bytes
from slipway_trainer.training.model_shape import ModelSize

ADAMW = Optimizer()
B = 10**9
SEVEN_B = ModelSize(7 * B, 7 * B, 32, 4096, 11008, 32000)
SEVEN_B_LORA = ModelSize(7 * B, 20_000_000, 32, 4096, 11008, 32000)


def table(size: ModelSize = SEVEN_B, device: str = "cuda", **changes: Any) -> MemoryTable:
    data = StageData.model_validate({"train": [{"uri": "file:///x"}]}, by_alias=True, by_name=False)
    settings = {
        "device": device,
        "precision": "BF16",
        "world": 8,
        "zero_stage": 1,
        "micro_batch": 1,
        "gradient_checkpointing": False,
    }
    stage = Stage(name="s", data=data, max_length=2048, optimizer=changes.pop("optimizer", ADAMW))
    return of_stage(size, stage, Setup(**(settings | changes)))


@pytest.mark.parametrize(
    ("precision", "zero", "world", "weights", "masters", "moments", "gradients"),
    [
        # Bytes a weight: in float32 no master weights but the flat copy of ZeRO 1 and 2.
        ("FP32", 0, 1, 4, 0, 8, 4),
        ("FP32", 0, 4, 4, 0, 8, 4),
        ("FP32", 1, 1, 4, 4, 8, 4),
        ("FP32", 1, 4, 4, 1, 2, 4),
        ("FP32", 2, 4, 4, 1, 2, 1),
        ("FP32", 3, 4, 1, 0, 2, 1),
        ("BF16", 1, 1, 2, 4, 8, 4),
        ("BF16", 1, 4, 2, 1, 2, 4),
        ("BF16", 2, 4, 2, 1, 2, 1),
        ("BF16", 3, 4, 0.5, 1, 2, 0.5),
        ("FP16", 1, 4, 2, 1, 2, 2),
    ],
)
def test_zero_divides_what_its_stage_says(
    precision: Any, zero: int, world: int, weights: float, masters: float, moments: float, gradients: float
) -> None:
    found = table(precision=precision, zero_stage=zero, world=world)
    told = [
        found.of(name).device / SEVEN_B.parameters for name in ("weights", "master weights", "optimizer", "gradients")
    ]
    assert told == [weights, masters, moments, gradients]


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("AdamW", SEVEN_B, 8 * 7e9),
        # The embedding's in 32 bits, and all others' in 8.
        ("AdamW8bit", SEVEN_B, 8 * 32000 * 4096 + 2.03 * (7e9 - 32000 * 4096)),
        # Two of the embedding and the output layer, and one of all matrices.
        ("Muon", SEVEN_B, 8 * 2 * 32000 * 4096 + 4 * (7e9 - 2 * 32000 * 4096)),
        # Of a mixture most weights are experts, which it does not take.
        ("Muon", replace(SEVEN_B, stacked=6 * B), 8 * (6e9 + 2 * 32000 * 4096) + 4 * (1e9 - 2 * 32000 * 4096)),
        ("AdamW", SEVEN_B_LORA, 8 * 2e7),
        ("AdamW8bit", SEVEN_B_LORA, 2.03 * 2e7),
        ("Muon", SEVEN_B_LORA, 4 * 2e7),
    ],
)
def test_moments_are_those_of_the_optimizer(name: Any, size: ModelSize, expected: float) -> None:
    optimizer = Optimizer(name=name)
    assert moment_bytes(size, optimizer) == pytest.approx(expected)
    fewer = state_bytes(size, "BF16", 1, 1, ADAMW) - state_bytes(size, "BF16", 1, 1, optimizer)
    assert fewer == pytest.approx(8 * size.trainable - expected)


def test_an_adapter_needs_no_optimizer_for_what_is_frozen() -> None:
    assert state_bytes(SEVEN_B_LORA, "BF16", 0, 1, ADAMW) < 1.1 * 2 * SEVEN_B.parameters


def test_the_buffers_are_those_of_deepspeed() -> None:
    bucket, embedding = 4 * 100_000_000, 4 * 32000 * 4096
    assert table(zero_stage=0, precision="FP32", world=1).of("reduction buffers").device == 0
    assert table(zero_stage=0, precision="FP32").of("reduction buffers").device == 4 * 500_000_000
    assert table(zero_stage=0, world=1).of("reduction buffers").device == 4 * 7 * B
    # Two to fill and to reduce, and the gradients of this process's piece.
    assert table(zero_stage=2).of("reduction buffers").device == 2 * bucket + 4 * 7 * B // 8
    # Of many pieces what is laid together is more, and an embedding is laid together whole.
    assert table(zero_stage=2, world=64).of("reduction buffers").device == 2 * bucket + embedding
    assert table(zero_stage=2, world=1).of("reduction buffers").device == bucket + 4 * 7 * B
    assert table(zero_stage=3).of("gathered weights").device == 2 * 1_050_000_000
    assert table(zero_stage=3, world=1).of("gathered weights").device == 0


def test_a_checkpoints_copy_and_the_models_are_in_the_hosts_memory_beside_a_gpu() -> None:
    on_gpu, on_cpu = table(zero_stage=1, world=1), table(zero_stage=1, world=1, device="cpu")
    saved = (2 + 4 + 8) * 7 * B
    assert (on_gpu.of("checkpoint's copy").device, on_gpu.of("checkpoint's copy").host) == (0, saved)
    assert (on_cpu.of("checkpoint's copy").device, on_cpu.of("checkpoint's copy").host) == (saved, 0)
    assert on_gpu.of("weights as written").host == FILE == model_files.SHARD_SIZE
    assert on_gpu.of("process").device == CONTEXT
    assert on_cpu.host == 0


def test_offload_moves_what_it_says() -> None:
    kept, optimizer, everything = (table(zero_stage=3, world=1, offload=o) for o in ("None", "Optimizer", "All"))
    # Masters, moments, and gradients in float32.
    assert optimizer.certain_host == (4 + 8 + 4) * 7 * B
    assert optimizer.certain_device == kept.certain_device - (4 + 8 + 2) * 7 * B
    assert everything.certain_host == (4 + 8 + 4 + 2) * 7 * B
    assert everything.certain_device == 0
    # Under ZeRO 1 gradients are added up on the GPU, and are no more there under ZeRO 2.
    assert [table(zero_stage=z, world=1, offload="Optimizer").of("gradients").device for z in (1, 2)] == [28 * B, 0]
    # Each layer comes to the GPU to be computed.
    assert everything.of("gathered weights").device == 2 * 1_050_000_000


def test_computing_activations_twice_needs_less() -> None:
    whole = activations.of_blocks(SEVEN_B, "BF16", 2048, checkpointing=False)
    assert activations.of_blocks(SEVEN_B, "BF16", 2048, checkpointing=True) < whole / 4


def test_the_output_layer_holds_no_more_logits_for_more_tokens() -> None:
    few, many = (activations.of_output(SEVEN_B, "BF16", tokens, "cuda") for tokens in (8192, 65536))
    assert many - few == 2 * (65536 - 8192) * 4096 * 2
