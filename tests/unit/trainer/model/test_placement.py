"""On which devices a model goes that is too large for one: told without weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from slipway_trainer.model import placement
from slipway_trainer.step.errors import BadConfig

GIB = 1 << 30


def seventy_billion() -> Any:
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        dtype=torch.bfloat16,
    )
    with torch.device("meta"):
        return LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("needed", "free", "host", "expected"),
    [
        (10, [80], 500, None),
        (10, [80, 80], 500, None),
        (132, [80, 80], 500, {0: 68, 1: 68, "cpu": 425}),
        (132, [80], 500, {0: 68, "cpu": 425}),
        (132, [24] * 8, 100, {**dict.fromkeys(range(8), 20.4), "cpu": 85}),
    ],
)
def test_the_first_gpu_has_all_that_fits_on_it(needed: int, free: list[int], host: int, expected: Any) -> None:
    rooms = placement.memory(needed * GIB, [own * GIB for own in free], host * GIB)
    assert rooms == (expected and pytest.approx({place: room * GIB for place, room in expected.items()}))


def test_what_fits_nowhere_is_refused_with_the_numbers() -> None:
    with pytest.raises(BadConfig, match=r"take 132\.0 GiB, and 2 GPU\(s\) with 48\.0 GiB and the host with 60\.0 GiB"):
        placement.memory(132 * GIB, [24 * GIB] * 2, 60 * GIB)


@pytest.mark.parametrize(
    ("gpus", "each", "host", "on_host"),
    [(2, 80, 100, False), (4, 48, 100, False), (8, 24, 100, False), (1, 80, 200, True)],
)
def test_blocks_go_in_their_order_over_gpus_that_share_evenly(gpus: int, each: int, host: int, on_host: bool) -> None:
    model = seventy_billion()
    needed = sum(weight.numel() for weight in model.parameters()) * 2
    rooms = placement.memory(needed, [each * GIB] * gpus, host * GIB)
    assert rooms is not None
    places = placement.spread(model, rooms)
    held: dict[Any, int] = dict.fromkeys(rooms, 0)
    for name, weight in model.named_parameters():
        (place,) = {places[part] for part in places if name == part or name.startswith(f"{part}.")}
        held[place] += weight.numel() * 2
    assert all(held[place] <= room for place, room in rooms.items())
    assert (held["cpu"] > 0) is on_host
    if not on_host:
        assert max(held[number] for number in range(gpus)) < 1.3 * needed / gpus
    order = [places[f"model.layers.{number}"] for number in range(80)]
    assert order == sorted(order, key=list(rooms).index)
