"""What a stage would cost: steps, memory and hours, before any of it is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slipway_core.plan import Plan
from slipway_core.protocol.preview import Cost, Extent, SourceView
from slipway_core.resources.stage import Stage
from slipway_trainer.batches import row_stream
from slipway_trainer.batches.mixed_rows import MixedRows
from slipway_trainer.batches.mixture import Mixture, SourceShare
from slipway_trainer.batches.order import DocumentList
from slipway_trainer.batches.row_stream import RowStream
from slipway_trainer.prepare import preflight
from slipway_trainer.preview import stage_memory, stage_sizes
from slipway_trainer.preview.tally import Tally
from slipway_trainer.tokens.tokenizer import id_count
from slipway_trainer.training import devices
from slipway_trainer.training.devices import Device
from slipway_trainer.training.model_shape import ModelSize

UTILISATION = 0.35
"""Share of a GPU's stated operations that a training of a language model gets, where no speed is stated."""
_SMALL = 100_000_000
"""Weights of a model below which it does not keep a GPU busy."""
_MOST_DOCUMENTS = 1 << 20
"""That are packed to see how much padding there is."""
_PACKED_ROWS = 1024
"""Of a mixture that are packed for that."""


class Costs(NamedTuple):
    device: Device | None
    stages: dict[str, Cost]
    """Of each stage of which something is known, by its name."""


def preflight_lines(plan: Plan, base: Path | None) -> list[str]:
    """Returns what is said of the stages before any data is read. Raises what `preflight.check` raises."""
    said: list[str] = []
    preflight.check(plan, base, said.append)
    return said


def of_stages(
    plan: Plan,
    base: Path | None,
    words: Any,
    tallies: dict[str, list[Tally]],
    device: Device | None,
    tokens_per_second: float | None,
    processes: int | None = None,
) -> Costs:
    """Returns what the stages cost.

    Args:
        base: folder of the base model; None when the plan makes a new one.
        words: the run's tokenizer.
        tallies: of the training data of each stage.
        device: what this machine has when None.
        tokens_per_second: of all devices together; told from the device when None.
        processes: of a stage; those of the plan when None.

    Raises BadModel or BadConfig when the model cannot be made.
    """
    device = device or devices.here()
    found: dict[str, Cost] = {}
    world = processes or stage_memory.processes_of(plan)
    for stage, size in zip(plan.stages, stage_sizes.of_plan(plan, base, id_count(words), words), strict=True):
        own = [tally for tally in tallies.get(stage.name, ()) if len(tally.documents)]
        if own:
            found[stage.name] = _of_stage(plan, stage, size, own, device, tokens_per_second, world)
    return Costs(device, found)


def _of_stage(
    plan: Plan,
    stage: Stage,
    size: ModelSize,
    tallies: Sequence[Tally],
    device: Device,
    tokens_per_second: float | None,
    world: int,
) -> Cost:
    extent, sources = extent_of(stage, tallies)
    speed, source = _speed(size, device, world, tokens_per_second)
    return Cost(
        extent=extent,
        sources=sources if len(sources) > 1 else [],
        memory=stage_memory.view(plan, stage, size, device, extent.sequences, world),
        parameters=size.parameters,
        trained=size.trainable,
        tokens_per_second=speed,
        speed=source,
        hours=round(extent.tokens / speed / 3600, 4) if speed else None,
    )


def extent_of(stage: Stage, tallies: Sequence[Tally]) -> tuple[Extent, list[SourceView]]:
    """Returns how far a stage goes, and what each source is of it.

    Steps are those of the training where all rows were looked at and no source has a share, and else told from how full
    the packed rows are.
    """
    by_source = tallies_by_source(tallies)
    tokens = {field: sum(t.scale * float(t.documents.sum()) for t in own) for field, own in by_source.items()}
    epoch = sum(own[0].source.weight * tokens[field] for field, own in by_source.items())
    sequences = row_stream.sequences_of(stage)
    if stage.data.mixed:
        shares = _mixed_shares(stage, by_source, tokens)
        filled = _filled_of_mixture(stage, by_source, shares)
        steps, seen = _steps(stage, sequences, filled, epoch)
    else:
        shares = {field: own[0].source.weight * tokens[field] / epoch for field, own in by_source.items()}
        lengths = np.concatenate([t.documents for t in tallies])
        weights = np.concatenate([np.full(len(t.documents), t.source.weight * t.scale) for t in tallies])
        # Of very many documents a part is packed; it leaves as much padding.
        part = min(1.0, _MOST_DOCUMENTS / max(1.0, float(weights.sum())))
        stream = RowStream(DocumentList(lengths, weights * part), seed=stage.seed, max_length=stage.max_length)
        rows = stream.first_row(1)
        filled = stream.tokens(stream.rows(0, rows)) / (rows * stage.max_length)
        if part == 1.0 and stage.tokens is None and all(t.looked_at == t.rows for t in tallies):
            steps = (whole := row_stream.extent(stage, stream)).steps
            seen = whole.rows / rows * epoch
        else:
            steps, seen = _steps(stage, sequences, filled, epoch)
    extent = Extent(
        steps=steps,
        sequences=sequences,
        epochs=round(seen / epoch, 4),
        tokens=round(seen),
        padding=round(1 - filled, 6),
    )
    views = [
        SourceView(
            field=field,
            uri=own[0].source.uri,
            share=round(shares[field], 6),
            times=round(shares[field] * seen / max(1.0, tokens[field]), 3),
        )
        for field, own in by_source.items()
    ]
    return extent, views


def tallies_by_source(tallies: Sequence[Tally]) -> dict[str, list[Tally]]:
    """Returns the files of each source, by its field."""
    found: dict[str, list[Tally]] = {}
    for one in tallies:
        found.setdefault(one.source.field, []).append(one)
    return found


def _steps(stage: Stage, sequences: int, filled: float, epoch: float) -> tuple[int, float]:
    """Returns the steps of a stage and the tokens that they see, told from how full its rows are."""
    of_step = sequences * stage.max_length * filled
    if stage.steps is not None:
        return stage.steps, stage.steps * of_step
    wanted = float(stage.tokens) if stage.tokens is not None else (stage.epochs or 1.0) * epoch
    return max(1, math.ceil(wanted / of_step)), wanted


def _mixed_shares(stage: Stage, by_source: dict[str, list[Tally]], tokens: dict[str, float]) -> dict[str, float]:
    """Returns the share of each source of a mixture."""
    temperature = stage.data.temperature
    parts = {
        field: (own[0].proportion or 0.0) if temperature is None else tokens[field] ** (1 / temperature)
        for field, own in by_source.items()
    }
    return {field: part / sum(parts.values()) for field, part in parts.items()}


def _filled_of_mixture(stage: Stage, by_source: dict[str, list[Tally]], shares: dict[str, float]) -> float:
    """Returns how full the packed rows of a mixture are, by its first ones."""
    lengths = [np.concatenate([t.documents for t in own]) for own in by_source.values()]
    mixture = Mixture(tuple(SourceShare(len(own), share) for own, share in zip(lengths, shares.values(), strict=True)))
    documents = DocumentList(np.concatenate(lengths), np.ones(sum(map(len, lengths))))
    wanted = _PACKED_ROWS if stage.steps is None else min(_PACKED_ROWS, stage.steps * row_stream.sequences_of(stage))
    rows = MixedRows(documents, mixture, seed=stage.seed, max_length=stage.max_length, rows=wanted)
    return rows.tokens(rows.rows(0, rows.end)) / (rows.end * stage.max_length)


def _speed(size: ModelSize, device: Device, world: int, stated: float | None) -> tuple[float | None, str]:
    """Returns trained tokens a second of all devices, and where that is from.

    A trained token takes about 6 operations a weight, and one with frozen weights 4 (Kaplan et al. 2020, 2.1).
    """
    if stated is not None:
        return stated, "as stated"
    if device.flops is None or size.parameters < _SMALL:
        return None, ""
    frozen = size.parameters - size.trainable
    operations = 6 * size.trainable + 4 * frozen
    speed = world * device.flops * UTILISATION / operations
    return (
        speed,
        f"at {UTILISATION:.0%} of the {device.flops / 1e12:.0f} TFLOP/s that a {device.name} is stated to have",
    )
