"""DeepSpeed's engine, for every case: one process or many, every precision, ZeRO 0 to 3."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import distributed, nn

from slipway_trainer.model.pieces import gathered
from slipway_trainer.training.memory_table import REDUCE_BUCKET
from slipway_trainer.training.precision import Precision

FIRST_SCALE_POWER = 16
"""fp16: the loss is first scaled by 2 to this power; every overflow halves it."""


def configuration(
    *,
    precision: Precision,
    zero_stage: int,
    micro_batch: int,
    max_grad_norm: float,
    world: int,
    device: str = "cpu",
    offload: Literal["None", "Optimizer", "All"] = "None",
) -> dict[str, Any]:
    """Returns DeepSpeed's configuration. Clipping in plain fp32 is the loop's own, because there DeepSpeed clips
    without telling the norm.

    Args:
        offload: what is kept in the host's memory, as `memory.offload` of a stage.
    """
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        # The loop says where a step ends: the number of micro batches is not the same in all steps.
        "gradient_accumulation_steps": 1,
        "train_batch_size": micro_batch * world,
        "gradient_clipping": 0.0 if owns_clipping(precision, zero_stage) else max_grad_norm,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": zero_stage},
    }
    if zero_stage in (1, 2):
        config["zero_optimization"] |= {
            # Gloo has no stream of its own to do it on.
            "overlap_comm": device == "cuda" and world > 1,
            "contiguous_gradients": True,
            "round_robin_gradients": False,
        }
    if zero_stage == 3:
        config["zero_optimization"] |= {"stage3_param_persistence_threshold": 10_000}
    if offload != "None":
        config |= _offloaded(config["zero_optimization"], offload, device)
    if precision == "BF16":
        config["bf16"] = {"enabled": True}
        if zero_stage in (1, 2):
            # Many micro batches add up in float32.
            config["data_types"] = {"grad_accum_dtype": "fp32"}
    if precision == "FP16":
        config["fp16"] = {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": FIRST_SCALE_POWER,
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "min_loss_scale": 1,
        }
    return config


def fit_bucket(config: dict[str, Any], module: nn.Module) -> None:
    """Makes ZeRO's bucket for gradients no larger than all of them: a GPU allocates all of it, and a second one."""
    if config["zero_optimization"]["stage"] > 0:
        trained = sum(getattr(p, "ds_numel", p.numel()) for p in module.parameters() if p.requires_grad)
        config["zero_optimization"]["reduce_bucket_size"] = max(1, min(REDUCE_BUCKET, trained))


def _offloaded(zero: dict[str, Any], offload: str, device: str) -> dict[str, Any]:
    """Returns what changes in the configuration: moments and masters in the host's memory, which takes the step by
    torch's AdamW, and with All the weights between their uses.

    Pinned where a device reads it, so that copies go on by themselves. DeepSpeed's own AdamW for hosts is compiled when
    it is first used, and the images have no compiler.
    """
    place = {"device": "cpu", "pin_memory": device == "cuda"}
    zero = zero | {"offload_optimizer": place} | ({"offload_param": place} if offload == "All" else {})
    return {"zero_optimization": zero, "zero_force_ds_cpu_optimizer": False}


def owns_clipping(precision: Precision, zero_stage: int) -> bool:
    """Whether the loop clips, rather than DeepSpeed."""
    return precision == "FP32" and zero_stage == 0


def initialize(module: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]) -> Any:
    """Returns DeepSpeed's engine around a module whose forward returns a loss."""
    import deepspeed

    # Its bf16 optimizer prints the machine's memory four times.
    with contextlib.redirect_stdout(io.StringIO()):
        engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
    if distributed.get_world_size() == 1 and engine.zero_optimization_stage() == 0:
        # It would copy all gradients into a buffer to add up those of one process.
        engine.enable_backward_allreduce = False
    wrapper: Any = engine.optimizer
    if type(wrapper).__name__ == "FP16_UnfusedOptimizer":
        # It has taken a step on zero gradients to make AdamW's state, which would count as the first one.
        wrapper.optimizer.state.clear()
    return engine


def trained_names(engine: Any) -> list[str]:
    """Returns the names of the weights that are trained, each of a tied one's too."""
    named = engine.module.model.named_parameters(remove_duplicate=False)
    return [name for name, parameter in named if parameter.requires_grad]


def gathered_state(engine: Any, names: Collection[str]) -> dict[str, torch.Tensor]:
    """Returns some weights and buffers of the wrapped model on the CPU, on rank 0 in full and none elsewhere.

    Collective under ZeRO-3, which holds every weight in pieces. A tied weight is there once for each of its names.
    """
    module, first = engine.module.model, distributed.get_rank() == 0
    state: dict[str, torch.Tensor] = {}
    copies: dict[int, torch.Tensor] = {}
    """By weight, so that a tied one is still tied."""
    tensors = {**dict(module.named_buffers()), **dict(module.named_parameters(remove_duplicate=False))}
    for name in names:
        tensor = tensors[name]
        if id(tensor) not in copies:
            with gathered([tensor]):
                # A copy: ZeRO's weights are views of one buffer, which safetensors takes for tied.
                copies[id(tensor)] = tensor.detach().cpu().clone() if first else tensor.detach()
        if first:
            state[name] = copies[id(tensor)]
    return state
