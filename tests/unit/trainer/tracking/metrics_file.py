"""metrics.jsonl as a stage writes it, by what writes it there, and event files as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slipway_trainer.step.progress import Metrics


def write_rows(
    path: Path, steps: Iterable[int], *, attempt: int = 1, after: int | None = None, loss: float = 1.0
) -> None:
    """Has an attempt write these steps, as one that goes on from the step before the first."""
    wanted = list(steps)
    metrics = Metrics(path, after_step=wanted[0] - 1 if after is None else after)
    for step in wanted:
        row = {"step": step, "attempt": attempt, "loss": loss / step, "validation_loss": None, "time": 1.7e9 + step}
        metrics.write(row)
    metrics.close()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns the curves that TensorBoard shows of a folder: (step, value), by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(e.step, round(e.value, 6)) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def texts(folder: Path) -> dict[str, str]:
    """Returns the texts that TensorBoard shows of a folder, the last one of each name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: found.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
