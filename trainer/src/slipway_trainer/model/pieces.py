"""Weights in pieces, one of each on every rank, from the moment in which a weight is there: ZeRO-3, and never a whole
model.

DeepSpeed would cut a model that every rank has whole. Here a weight is cut when it has been read or initialised, before
the next one is: what a rank holds at any moment is its pieces, and one layer. Rank 0's are the weights of all. What is
random is drawn as for a whole model, weight after weight, so that a seed gives the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import distributed, nn

from slipway_host import freed_memory
from slipway_trainer.model import cut_linear

_ONE_BY_ONE = "HF_DEACTIVATE_ASYNC_LOAD"
"""Else transformers reads weights ahead, as fast as the disk gives them."""


class Pieces:
    """How the weights of a stage are cut."""

    def __init__(self, config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        """
        Args:
            config: DeepSpeed's, of ZeRO stage 3; says whether pieces lie in the host's memory.
            device: of the weights.
            dtype: of the weights.
        """
        import deepspeed

        self._device = device
        self._dtype = dtype
        seed = nn.Module()
        seed.weight = nn.Parameter(torch.zeros(1, dtype=dtype, device=device))
        deepspeed.zero.Init(module=seed, config_dict_or_path=config, dtype=dtype)
        cut_linear.use()
        cut: Any = seed.weight
        self._convert: Any = cut.convert_to_zero_parameters

    def cut(self, weights: Iterable[nn.Parameter]) -> None:
        """Cuts weights that are whole, one after the other, and leaves each rank its piece. Collective."""
        for weight in weights:
            if hasattr(weight, "ds_id") or not weight.is_floating_point():
                continue
            if distributed.get_rank() == 0:
                # Of its own, too: what was read from a file is a view of that.
                weight.data = torch.empty(weight.shape, dtype=self._dtype, device=self._device).copy_(weight.data)
            else:
                weight.data = torch.empty(weight.shape, dtype=self._dtype, device=self._device)
            self._convert([weight])
            freed_memory.give_back()

    @contextmanager
    def while_loading(self) -> Iterator[None]:
        """Cuts what transformers loads as soon as a weight has its place in the model."""

        def cut(_module: nn.Module, _name: str, weight: nn.Parameter | None) -> None:
            # What is missing in the files is initialised first.
            if weight is not None and not weight.is_meta and getattr(weight, "_is_hf_initialized", False):
                self.cut([weight])

        before = os.environ.get(_ONE_BY_ONE)
        os.environ[_ONE_BY_ONE] = "1"
        handle = nn.modules.module.register_module_parameter_registration_hook(cut)  # pyright: ignore
        try:
            yield
        finally:
            handle.remove()
            if before is None:
                del os.environ[_ONE_BY_ONE]
            else:
                os.environ[_ONE_BY_ONE] = before

    @contextmanager
    def while_making(self) -> Iterator[None]:
        """Cuts what transformers makes at random as soon as a layer is initialised.

        Torch draws weights for a layer when it is made, which transformers draws anew later: in between they take no
        memory.
        """
        from transformers import PreTrainedModel

        shapes: dict[int, torch.Size] = {}
        kinds: tuple[Any, ...] = (nn.Linear, nn.Embedding)
        originals = {kind: kind.reset_parameters for kind in kinds}
        any_model: Any = PreTrainedModel
        initialize = any_model._initialize_weights

        def drawn_and_dropped(layer: Any) -> None:
            originals[nn.Linear if isinstance(layer, nn.Linear) else nn.Embedding](layer)
            for weight in layer.parameters(recurse=False):
                shapes[id(weight)] = weight.shape
                weight.data = weight.data.new_empty(0)
            freed_memory.give_back()

        def initialized(model: Any, module: nn.Module, *arguments: Any, **named: Any) -> None:
            own = list(module.parameters(recurse=False))
            if any(hasattr(weight, "ds_id") for weight in own):
                return
            for weight in own:
                if (shape := shapes.get(id(weight))) is not None:
                    weight.data = weight.data.new_empty(shape)
            initialize(model, module, *arguments, **named)
            self.cut(own)

        for kind in kinds:
            kind.reset_parameters = drawn_and_dropped
        any_model._initialize_weights = initialized
        try:
            yield
        finally:
            for kind, original in originals.items():
                kind.reset_parameters = original
            any_model._initialize_weights = initialize

    @contextmanager
    def vocabulary_whole(self, model: Any) -> Iterator[None]:
        """Has the embedding and the output layer whole on every rank, as plain weights that may be changed and
        replaced; they, and whatever else is whole, are cut again at the end. Collective."""
        layers = [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
        held = {id(weight): weight for layer in layers for weight in layer.parameters(recurse=False)}
        whole: dict[int, nn.Parameter] = {}
        for key, weight in held.items():
            with gathered([weight]):
                whole[key] = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
        for module in model.modules():
            for name, weight in list(module._parameters.items()):
                # A tied weight has more than one place.
                if weight is not None and id(weight) in whole:
                    module._parameters[name] = whole[id(weight)]
        yield
        del whole
        self.cut(model.parameters())


def vocabulary_whole(model: Any, pieces: Pieces | None) -> AbstractContextManager[None]:
    """As `Pieces.vocabulary_whole`; nothing is to be done for a model that is whole."""
    return nullcontext() if pieces is None else pieces.vocabulary_whole(model)


def held_by(model: nn.Module) -> bool:
    """Whether a model has its weights in pieces."""
    return any(hasattr(weight, "ds_id") for weight in model.parameters())


def shape_of(weight: torch.Tensor) -> torch.Size:
    """Returns the shape of a weight, whole or in pieces."""
    return getattr(weight, "ds_shape", weight.shape)


def size_of(weight: torch.Tensor) -> int:
    """Returns how many numbers a weight has, whole or in pieces."""
    return shape_of(weight).numel()


@contextmanager
def gathered(weights: Iterable[nn.Parameter], *, changed: bool = False) -> Iterator[None]:
    """Has weights whole on every rank meanwhile; those that are whole anyway are left alone. Collective.

    Args:
        changed: whether they are changed in their places: what rank 0 then has is cut again.
    """
    held = [weight for weight in weights if hasattr(weight, "ds_id")]
    if not held:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(held, modifier_rank=0 if changed else None):
        yield


@contextmanager
def whole_while_called(model: nn.Module) -> Iterator[None]:
    """Has each block of a model, and each layer outside of the blocks, whole while it is called, without gradients. A
    block as one: layers in it may read each other's weights. Collective, by the calls."""
    handles: list[Any] = []
    for part in _parts(model):
        held = list({id(weight): weight for weight in part if hasattr(weight, "ds_id")}.values())
        if not held:
            continue

        def enter(*_: Any, held: list[Any] = held) -> None:
            held[0].all_gather(held)

        def leave(*_: Any, held: list[Any] = held) -> None:
            held[0].partition(held)

        handles += [part.module.register_forward_pre_hook(enter)]
        handles += [part.module.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Part(list[nn.Parameter]):
    """The weights that a module is called with."""

    def __init__(self, module: nn.Module, weights: Iterable[nn.Parameter]) -> None:
        super().__init__(weights)
        self.module = module


def _parts(model: nn.Module) -> Iterator[_Part]:
    inside: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and module not in inside:
            for block in module:
                yield _Part(block, block.parameters())
            inside.update(module.modules())
        elif module not in inside:
            yield _Part(module, module.parameters(recurse=False))


@contextmanager
def known_to_peft() -> Iterator[None]:
    """Has peft gather the weights that it reads."""
    from transformers.integrations import deepspeed as told

    config = told.HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
    try:
        yield
    finally:
        told.unset_hf_deepspeed_config()
        del config
