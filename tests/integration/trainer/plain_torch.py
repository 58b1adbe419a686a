"""The same training as a plain torch loop, for what DeepSpeed makes of an optimizer to be held against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.integration.trainer.training import Training
from torch.nn import functional

from slipway_trainer.batches import mixed_rows, row_stream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import stage_model
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import schedule
from slipway_trainer.training.micro_batches import MicroBatches, Windows
from slipway_trainer.training.process_group import Ranks

Optimizers = Callable[[torch.nn.Module], list[torch.optim.Optimizer]]


def train(run: Training, optimizers: Optimizers) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Returns the losses and the weights of a stage, trained in float32 with a document a row."""
    settings = run.plan.stage("pretrain")
    model = stage_model.load_composed(run.plan, run.workspace, None, seed=settings.seed).train()
    shards = Shards.open(run.folder().data("train"))
    stream = mixed_rows.of_stage(settings, shards, shards.mixture)
    extent = row_stream.extent(settings, stream)
    pad = int(tokenizer.load(run.workspace).pad_token_id)  # type: ignore[arg-type]
    windows = Windows(MicroBatches(shards, settings.max_length, 1, False, pad, Ranks()), stream, extent)
    made, losses = optimizers(model), []
    for step in range(extent.steps):
        window = windows.of_step(step)
        nats = 0.0
        for batch in window.batches:
            logits = model(input_ids=batch.input_ids).logits
            summed = functional.cross_entropy(logits.flatten(0, 1)[batch.predicting], batch.targets, reduction="sum")
            (summed / window.counted).backward()
            nats += float(summed)
        losses.append(nats / window.counted)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimizer.max_grad_norm)
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step, extent.steps, settings.optimizer)
            optimizer.step()
            optimizer.zero_grad()
    return losses, {name: weight.detach() for name, weight in model.named_parameters()}
