"""TensorBoard: event files in the workspace, by TensorBoard's own writer, which needs neither torch nor TensorFlow."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slipway_trainer.tracking.tracker import Begun, Conclusion, Outcome, Row, TrackedRun, TrackerAway


@dataclass
class TensorBoardFiles:
    run: TrackedRun
    _writer: Any = None

    def begin(self) -> Begun:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self.run.folder / "tensorboard"
        with _in_our_words():
            # A file of its own in each attempt: one that a crash has cut off takes nothing more.
            told = any(folder.glob("events.out.tfevents.*"))
            self._writer = EventFileWriter(str(folder), filename_suffix=f".{self.run.id[:8]}")
            if not told:
                self._add(0, _text("plan", _block(self.run.config)))
                self._writer.flush()
        return Begun(f"file://{folder}")

    def rewind(self, axis: int) -> None:
        """TensorBoard leaves out what earlier files have from this step on."""
        event = _proto("event")
        with _in_our_words():
            start = event.SessionLog(status=event.SessionLog.START)
            self._writer.add_event(event.Event(step=axis, wall_time=time.time(), session_log=start))

    def log(self, rows: Sequence[Row]) -> None:
        with _in_our_words():
            for row in rows:
                self._add(row.axis, _scalars(row.values), row.seconds)
            self._writer.flush()

    def conclude(self, conclusion: Conclusion) -> None:
        with _in_our_words():
            self._add(conclusion.axis, _scalars(conclusion.metrics), conclusion.seconds)
            self._add(conclusion.axis, _text("verdict", _block(conclusion.facts)), conclusion.seconds)
            self._writer.flush()

    def end(self, outcome: Outcome) -> None:
        with _in_our_words():
            self._writer.close()

    def _add(self, axis: int, summary: Any, seconds: float = 0.0) -> None:
        event = _proto("event").Event(step=axis, wall_time=seconds or time.time(), summary=summary)
        self._writer.add_event(event)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrackerAway(f"its event file cannot be written: {error}") from None


def _scalars(values: Mapping[str, float]) -> Any:
    summary = _proto("summary").Summary
    return summary(value=[summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _text(tag: str, markdown: str) -> Any:
    summary = _proto("summary")
    metadata = summary.SummaryMetadata(plugin_data=summary.SummaryMetadata.PluginData(plugin_name="text"))
    tensor = _proto("tensor").TensorProto(dtype=_proto("types").DT_STRING, string_val=[markdown.encode()])
    return summary.Summary(value=[summary.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def _proto(name: str) -> Any:
    return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")


def _block(values: Mapping[str, Any]) -> str:
    """Returns JSON as TensorBoard shows it whole: its text is Markdown."""
    text = json.dumps(values, ensure_ascii=False, indent=2)
    return "\n".join(f"    {line}" for line in text.splitlines())
