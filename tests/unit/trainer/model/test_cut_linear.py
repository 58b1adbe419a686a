"""The linear layer of weights in pieces."""

import pytest
import torch
from torch.nn import functional

from slipway_trainer.model import cut_linear


@pytest.mark.parametrize("bias", [None, "frozen", "trained"])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5)])
def test_result_and_gradients_are_those_of_torch(shape: tuple[int, ...], trained: bool, bias: str | None) -> None:
    draw = torch.Generator().manual_seed(0)

    def gradients() -> list[torch.Tensor | None]:
        given = torch.randn(shape, generator=draw.manual_seed(1), requires_grad=True)
        weight = torch.randn((4, 5), generator=draw, requires_grad=trained)
        added = None if bias is None else torch.randn(4, generator=draw, requires_grad=bias == "trained")
        result = functional.linear(given, weight, added)
        (result**2).sum().backward()
        return [result.detach(), given.grad, weight.grad, None if added is None else added.grad]

    expected = gradients()
    with cut_linear.for_one_stage():
        cut_linear.use()
        found = gradients()
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs)


def test_torch_has_its_layer_back_after_a_stage_that_failed() -> None:
    def fail() -> None:
        with cut_linear.for_one_stage():
            cut_linear.use()
            raise RuntimeError("out of memory")

    plain = functional.linear
    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert functional.linear is plain
