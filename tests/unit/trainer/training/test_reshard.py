"""Optimizer states cut anew, from any number of ranks under any ZeRO stage to any other: nothing lost, nothing new."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slipway_trainer.training.checkpoints import pieces, reshard
from slipway_trainer.training.checkpoints.reshard import Saved

GROUPS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=3)
ENGINES = st.tuples(st.sampled_from([0, 1, 2, 3]), st.integers(1, 5))


def buffers(zero_stage: int, groups: list[list[int]], world: int) -> list[int]:
    """Sizes as DeepSpeed makes them."""
    if zero_stage == 0:
        return [size for group in groups for size in group]
    if zero_stage == 3:
        return [sum(-(-size // world) for size in group) for group in groups]
    # Pieces of an even number of elements.
    return [-(-sum(group) // (2 * world)) * 2 for group in groups]


def whole(groups: list[list[int]], name: str) -> list[torch.Tensor]:
    """The elements of each weight: all different, and different by name."""
    first, found = {"master": 1.0, "exp_avg": 10_001.0, "exp_avg_sq": 20_001.0}[name], []
    for size in (size for group in groups for size in group):
        found.append(torch.arange(first, first + size))
        first += size
    return found


def empty(zero_stage: int, groups: list[list[int]], world: int) -> tuple[dict[str, Any], list[torch.Size]]:
    """A state without moments, in the form that the wrapper of a stage gives it, and the shapes of its buffers."""
    sizes = buffers(zero_stage, groups, world)
    tensors = [torch.zeros(size) for size in sizes]
    base: dict[str, Any] = {"state": {}, "param_groups": [{"lr": 0.5}]}
    if zero_stage == 3:
        return {"fp32_flat_groups": tensors, "optimizer_state_dict": base}, [tensor.shape for tensor in tensors]
    if zero_stage:
        state = {"single_partition_of_fp32_groups": tensors, "base_optimizer_state": base}
        return state, [tensor.shape for tensor in tensors]
    rest = iter(tensors)
    nested = [[next(rest) for _ in group] for group in groups]
    return {"fp32_groups": nested, "optimizer_state_dict": base}, [tensor.shape for tensor in tensors]


def states(zero_stage: int, groups: list[list[int]], world: int) -> list[dict[str, Any]]:
    """The states of all ranks, made from whole weights one element at a time."""
    made = []
    for rank in range(1 if zero_stage == 0 else world):
        state, shapes = empty(zero_stage, groups, world)
        base = state["optimizer_state_dict" if zero_stage in (0, 3) else "base_optimizer_state"]
        masters = list(reshard._flat(state[reshard._name_of_masters(state)]))  # type: ignore[index]
        moments = {name: [torch.zeros(shape) for shape in shapes] for name in ("exp_avg", "exp_avg_sq")}
        sizes = [shape.numel() for shape in shapes]
        for piece in pieces.of_rank(zero_stage, groups, sizes, rank=rank, world=world):
            for name, target in ({"master": masters} | moments).items():
                for at in range(piece.length):
                    target[piece.buffer][piece.offset + at] = whole(groups, name)[piece.weight][piece.start + at]
        for buffer in range(len(shapes)):
            base["state"][buffer] = {"step": torch.tensor(7.0)} | {name: moments[name][buffer] for name in moments}
        made.append(state)
    return made


@given(GROUPS, ENGINES)
def test_every_element_lies_in_one_place(groups: list[list[int]], engine: tuple[int, int]) -> None:
    zero_stage, world = engine
    sizes = buffers(zero_stage, groups, world)
    found: list[tuple[int, int]] = []
    for rank in range(1 if zero_stage == 0 else world):
        taken: set[tuple[int, int]] = set()
        for piece in pieces.of_rank(zero_stage, groups, sizes, rank=rank, world=world):
            assert piece.offset + piece.length <= sizes[piece.buffer]
            places = {(piece.buffer, piece.offset + at) for at in range(piece.length)}
            assert not places & taken
            taken |= places
            found += [(piece.weight, piece.start + at) for at in range(piece.length)]
    numbered = enumerate(size for group in groups for size in group)
    assert sorted(found) == [(weight, at) for weight, size in numbered for at in range(size)]


@given(GROUPS, ENGINES, ENGINES)
def test_D_a_state_cut_anew_is_the_one_that_the_other_engine_would_have(
    groups: list[list[int]], old: tuple[int, int], new: tuple[int, int]
) -> None:
    saved = Saved(states(old[0], groups, old[1]), old[0], groups, None)
    for rank, expected in enumerate(states(new[0], groups, new[1])):
        template, shapes = empty(new[0], groups, new[1])
        sizes = [shape.numel() for shape in shapes]
        mine = pieces.of_rank(new[0], groups, sizes, rank=rank, world=new[1])
        found = reshard.for_rank(saved, template, mine, shapes)
        masters = reshard._name_of_masters(expected)
        assert masters is not None
        for one, other in zip(reshard._flat(found[masters]), reshard._flat(expected[masters]), strict=True):
            assert torch.equal(one, other)
        base, wanted = reshard._base(found), reshard._base(expected)
        assert base["param_groups"] == [{"lr": 0.5}]
        for buffer, moments in base["state"].items():
            for name, value in moments.items():
                assert torch.equal(value, wanted["state"][buffer][name])
        # A buffer of padding alone has no state to go by.
        filled = {piece.buffer for piece in mine}
        assert set(base["state"]) == filled


def test_a_weight_is_read_across_the_ranks_that_have_it() -> None:
    groups = [[5, 30], [3]]
    for zero_stage, world in ((0, 1), (1, 3), (3, 4)):
        saved = Saved(states(zero_stage, groups, world), zero_stage, groups, None)
        like = torch.nn.Parameter(torch.zeros(5, 6))
        assert torch.equal(saved.weight(1, like), whole(groups, "master")[1].view(5, 6))


def test_without_master_weights_those_of_the_model_are_read() -> None:
    weights = [torch.arange(4.0), torch.arange(6.0).view(2, 3)]
    plain = {"state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.ones(4)}}, "param_groups": []}
    saved = Saved([plain], 0, [[4, 6]], weights)
    template, shapes = empty(1, [[4, 6]], 2)
    mine = pieces.of_rank(1, [[4, 6]], [6], rank=1, world=2)
    found = reshard.for_rank(saved, template, mine, shapes)
    assert found["single_partition_of_fp32_groups"][0].tolist() == [2.0, 3.0, 4.0, 5.0, 0.0, 0.0]
    # Of the first weight this rank has nothing, and of the second no step was taken.
    assert found["base_optimizer_state"]["state"] == {}


def test_a_group_of_many_weights_has_several_buffers_under_zero_3() -> None:
    found = pieces.of_rank(3, [[4, 4, 6], [2]], [4, 3, 1], rank=1, world=2)
    assert [(piece.buffer, piece.offset, piece.weight, piece.start) for piece in found] == [
        (0, 0, 0, 2),
        (0, 2, 1, 2),
        (1, 0, 2, 3),
        (2, 0, 3, 1),
    ]


@pytest.mark.parametrize(
    ("zero_stage", "sizes"), [(0, [4]), (0, [4, 7]), (1, [2, 2]), (1, [4]), (3, [3]), (3, [5, 1]), (3, [2, 3, 1])]
)
def test_states_of_other_weights_are_none_of_these(zero_stage: int, sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"weights of|do not hold|parts of"):
        pieces.of_rank(zero_stage, [[4, 6]], sizes, rank=0, world=2)


def test_moments_in_blocks_cannot_be_divided() -> None:
    blocks = {"state": {0: {"state1": torch.zeros(4), "__bnb_optimizer_quant_state__": {"absmax1": torch.zeros(1)}}}}
    assert not reshard.is_divisible({"base_optimizer_state": blocks})
    assert not reshard.is_divisible({"optimizer_state_dict": blocks})
    assert not reshard.is_divisible(blocks)
    assert reshard.is_divisible(states(1, [[4]], 2)[0])
