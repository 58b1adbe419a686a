"""What a plan would learn, token by token, and what it would cost, before anything is trained.

It reads the data with what `prepare` reads it with, of large data a part; what would end the run is collected, so that
all of it can be mended at once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from slipway_core.plan import Plan
from slipway_core.protocol.preview import Cost, GatePower, HeldOutView, LeftOutView, OverlapView, Preview, StageView
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.stage import Stage
from slipway_trainer.data import blank_rows, held_out, inputs, learned_validation, row_warnings
from slipway_trainer.data.encode import Encoder, Job
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.data.inputs import Input, Inputs, StageInputs
from slipway_trainer.judge import key
from slipway_trainer.prepare import (
    base_training,
    conversation_check,
    gate_power,
    gate_rows,
    harness_tasks,
    judge_questions,
    preflight,
    prompt_check,
    source_shares,
    stage_shards,
    tokenizer_of_run,
)
from slipway_trainer.prepare.harness_tasks import CopiedTask
from slipway_trainer.prepare.tokenizer_of_run import RunTokenizer
from slipway_trainer.preview import base_model, cost, data_of_gates, look, shown_rows, stage_sizes, tally
from slipway_trainer.preview.beside import Beside
from slipway_trainer.preview.look import MOST_PROBLEMS, Look
from slipway_trainer.preview.sampled_file import SampledFile
from slipway_trainer.preview.tally import Tally
from slipway_trainer.step.errors import StepFailure
from slipway_trainer.step.progress import Say
from slipway_trainer.training import devices

MOST_OVERLAPS = 50
_MUCH_PADDING, _MANY_ROWS = 0.3, 8


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the plan."""

    device: str | None = None
    """Name of a device; what is found here when None."""
    tokens_per_second: float | None = None
    rows: int = 3
    """Of each stage that are shown."""
    processes: int | None = None
    """Of each stage; those of the plan when None."""


@dataclass
class _Encoded:
    """What the rows of a stage became."""

    encoder: Encoder
    train: list[Tally] = field(default_factory=list[Tally])
    validation: list[Tally] = field(default_factory=list[Tally])
    faulty: bool = False
    """Whether some rows could not be encoded."""


def of_plan(plan: Plan, wanted: Wanted, beside: Beside, say: Say, *, judge_key: str = "") -> Preview:
    """Returns what is to be shown. Nothing is written but into a temporary folder.

    Args:
        beside: what needs torch runs there.
        say: told what goes on, a line at a time.
        judge_key: what the environment has for one.

    Raises BadConfig for a device that is not known, and a FetchError when what lies elsewhere cannot be fetched.
    """
    started = time.monotonic()
    device = devices.named(wanted.device) if wanted.device is not None else None
    with tempfile.TemporaryDirectory(prefix="slipway-preview-") as folder:
        seen = _See(plan, wanted, device, Path(folder), beside, say, judge_key).see()
    return seen.model_copy(update={"seconds": round(time.monotonic() - started, 2)})


@dataclass
class _See:
    """One look at a plan; what is found wrong does not end it."""

    plan: Plan
    wanted: Wanted
    device: devices.Device | None
    folder: Path
    beside: Beside
    say: Say
    judge_key: str
    problems: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])

    def see(self) -> Preview:
        asked = self._try(lambda: preflight.check_others(self.plan, key.read(self.plan, self.judge_key)))
        self.warnings += asked or []
        base = self._try(self._base)
        there = base is not None or self.plan.model.from_ is None
        if there and self._try(lambda: stage_sizes.are_told(self.plan, base)) is False:
            self.beside.import_torch()
        checked = self.beside.start(cost.preflight_lines, self.plan, base) if there else None
        judged = Workspace(self.folder / "judged")
        tasks: list[CopiedTask] = []
        if self.plan.evaluation.tasks:
            longest_of_model = preflight.longest(self.plan, base) if there else None
            tasks = (
                self._try(lambda: harness_tasks.look(self.plan, judged, longest_of_model, self.say, self._bad)) or []
            )
        found = self._try(lambda: inputs.collect(self.plan, self.folder / "data", self.say))
        if found is None:
            found = Inputs({stage.name: StageInputs((), (), stage.objective) for stage in self.plan.stages}, (), ())
        read = self._try(lambda: held_out.read(found))
        if read is not None:
            self._try(lambda: gate_rows.check(self.plan, read))
            self.warnings += gate_rows.notes(read)
        whole = held = replace(read or HeldOut([], []), tasks=harness_tasks.texts(tasks))
        unknown: base_training.BaseTraining | None = None
        if there:
            unknown = self._try(lambda: base_training.check(self.plan, base, held, self.say, self.say))
        held = held if unknown is None else unknown.held
        self.say("looking at the rows")
        seen = look.look(found, held, self.folder, drop=self.plan.evaluation.on_overlap == "Drop")
        self.problems += seen.problems
        # From here on as in prepare: by what is left.
        held = seen.held
        if read is not None:
            self.warnings += gate_rows.warnings(self.plan, held)
        self.warnings += harness_tasks.warnings(self.plan, tasks, held.tasks)
        words = self._try(lambda: self._tokenizer(base, seen, held)) if there else None
        encoded: dict[str, _Encoded] = {}
        power: list[gate_power.Power] = []
        costs = cost.Costs(self.device, {})
        if words is not None:
            longest, virtual = preflight.longest(self.plan, base), self.plan.virtual_tokens
            self._try(lambda: prompt_check.check(held, words.words, longest, virtual=virtual))
            power = self._try(lambda: gate_power.of_gates(self.plan, held, words.words, whole=whole)) or []
            self.warnings += [one.never for one in power if one.never is not None]
            long = self._try(lambda: conversation_check.warnings(held, words.words, longest, virtual=virtual))
            self.warnings += long or []
            encoded = {s.name: made for s in self.plan.stages if (made := self._encoded(s, seen, words)) is not None}
            for stage in self.plan.stages:
                own = encoded.get(stage.name)
                if own is not None and not own.faulty and seen.faultless(found.stages[stage.name]):
                    self._refuse_nothing(stage, own)
            costs = self._try(lambda: self._costs(base, words, encoded)) or costs
            self.problems += [c.memory.refused for c in costs.stages.values() if c.memory and c.memory.refused]
        stages = [
            self._stage(stage, found, seen, encoded.get(stage.name), costs.stages.get(stage.name), words)
            for stage in self.plan.stages
        ]
        if checked is not None:
            self.warnings += self._try(lambda: self.beside.result(checked)) or []
        known = unknown is not None
        data = [] if read is None else data_of_gates.of_plan(self.plan, tasks, seen, judged, base_read=known)
        unseen = data_of_gates.not_looked_at(self.plan, seen, base_read=known)
        return Preview(
            run=self.plan.run.name,
            model=_model(self.plan),
            tokenizer=_tokenizer(words),
            device=costs.device.name if costs.device is not None else "this machine",
            sampled=round(seen.share, 6),
            problems=list(dict.fromkeys(self.problems)),
            warnings=list(dict.fromkeys(self.warnings)),
            stages=stages,
            held_out=_held(self.plan, seen, power, unseen).model_copy(update={"gate_data": data}),
        )

    def _costs(self, base: Path | None, words: RunTokenizer, encoded: dict[str, _Encoded]) -> cost.Costs:
        train = {name: made.train for name, made in encoded.items()}
        speed = self.wanted.tokens_per_second
        return self.beside.result(
            self.beside.start(
                cost.of_stages, self.plan, base, words.words, train, self.device, speed, self.wanted.processes
            )
        )

    def _try(self, part: Any) -> Any:
        """Returns what a part of the look gives; None after noting why it gives nothing."""
        try:
            return part()
        except StepFailure as error:
            self._bad(error)
            return None

    def _bad(self, error: StepFailure) -> None:
        self.problems.append(str(error))

    def _base(self) -> Path | None:
        return base_model.of_plan(self.plan, self.folder / "models", self.say)

    def _tokenizer(self, base: Path | None, seen: Look, held: HeldOut) -> RunTokenizer | None:
        if base is None and not seen.characters:
            return None  # Nothing could be read, and why is among the problems.
        tools = seen.tools or held.has_tools
        place = self.folder / "tokenizer"
        return tokenizer_of_run.make(self.plan, base, seen.found, seen.characters, place, self.say, tools=tools)

    def _encoded(self, stage: Stage, seen: Look, words: RunTokenizer) -> _Encoded | None:
        """Makes tokens of what is looked at of a stage."""
        found = seen.found.stages[stage.name]
        if not found.train:
            return None  # Nothing was found, and why is among the problems.
        keys = seen.keys_of(found)
        if (gone := seen.left_out[stage.name]) is not None:
            keys = keys[gone.stays]
        encoder = self._try(lambda: stage_shards.encoder_of(stage, keys, words.words, masked=seen.masks(found)))
        if encoder is None:
            return None
        made = _Encoded(encoder)
        failures: list[str] = []
        left_out = None if gone is None else gone.blocks()
        for source, asked in zip(found.train, stage.data.train, strict=True):
            for file in _files(source):
                own, aside = Tally(source, file, asked.proportion), Tally(source, file)
                failures += _fill(encoder, own, aside, left_out)
                made.train.append(own)
                if aside.counts.rows:
                    made.validation.append(aside)
        for source in found.validation:
            for file in _files(source):
                made.validation.append(own := Tally(source, file))
                failures += _fill(encoder, own, own)
        made.faulty = bool(failures)
        self.problems += failures[:MOST_PROBLEMS]
        if (more := len(failures) - MOST_PROBLEMS) > 0:
            self.problems.append(f"stage {stage.name}: {more} more parts of its data hold such rows")
        return made

    def _refuse_nothing(self, stage: Stage, made: _Encoded) -> None:
        """Notes where nothing is learned of a split or of a source with a share, as prepare refuses it.

        Of data of which a part was looked at, that is not known; then the share of the rows that are cut is a warning.
        """
        for split, tallies in {"train": made.train, "validation": made.validation}.items():
            if tallies and _whole(tallies):
                self._try(lambda s=split, t=tallies: stage_shards.refuse_empty(stage, s, tally.counts_of(t)))
        for own in cost.tallies_by_source(made.train).values():
            if (share := own[0].proportion) is not None and _whole(own):
                counts = source_shares.SourceCounts()
                counts.add(tally.counts_of(own))
                self._try(lambda s=own[0].source, c=counts, p=share: source_shares.refuse_empty(s, c, p))

    def _stage(
        self,
        stage: Stage,
        found: Inputs,
        seen: Look,
        made: _Encoded | None,
        costs: Cost | None,
        words: RunTokenizer | None,
    ) -> StageView:
        files = seen.views(found.stages[stage.name])
        train = [] if made is None else made.train
        keys = seen.keys_of(seen.found.stages[stage.name])
        apart = seen.validation_keys_of(seen.found.stages[stage.name])
        rows = sum(file.rows for file in files if file.split == "train")
        view = StageView(
            name=stage.name,
            objective=stage.objective,
            max_length=stage.max_length,
            files=files,
            rows=rows,
            documents=tally.total_of(train, "documents"),
            tokens=tally.total_of(train, "tokens"),
            learned=tally.total_of(train, "learned_tokens"),
            validation_tokens=tally.total_of(made.validation, "tokens")
            if made is not None and made.validation
            else None,
            fates=tally.fates(train),
            duplicates=0 if stage.data.deduplicate != "None" else len(keys) - len(np.unique(keys)),
            lengths=tally.lengths(train, stage.max_length),
            cost=costs,
            shown=[]
            if made is None or words is None
            else shown_rows.shown(
                made.encoder,
                [file for source in seen.found.stages[stage.name].train for file in _files(source)],
                words.words,
                most=self.wanted.rows,
            ),
        )
        if made is not None:
            self.warnings += list(_warnings(stage, view, train))
        if learned := learned_validation.count(apart, keys):
            self.warnings.append(learned_validation.line(stage.name, learned, len(apart)))
        return view


def _whole(tallies: Sequence[Tally]) -> bool:
    return all(one.looked_at == one.rows for one in tallies)


def _files(source: Input) -> Iterator[SampledFile]:
    for file in source.files:
        assert isinstance(file, SampledFile)
        yield file


def _fill(encoder: Encoder, own: Tally, aside: Tally, left_out: Iterator[np.ndarray] | None = None) -> Iterator[str]:
    """Makes tokens of a file, block by block. Yields what is wrong with it: the first fault of each block.

    Args:
        own: of the file.
        aside: of what is set aside for the validation loss.
        left_out: which rows of each block are; of a file without, none.
    """
    for block in own.file.blocks():
        job = Job(block, None if left_out is None else next(left_out))
        try:
            outputs, left = encoder.deduplicated(job)
        except StepFailure as error:
            yield str(error)
            continue
        own.left_out += len(left)
        for into, (encoded, counts) in zip((own, aside), outputs, strict=True):
            if counts.rows:
                into.add(encoded, counts, encoder.max_length)


def _warnings(stage: Stage, view: StageView, train: Sequence[Tally]) -> Iterator[str]:
    """Yields what nobody refuses, and what is most likely not meant."""
    place = f"stage {stage.name}"
    if unlearned := sum(one.unlearned for one in train):
        yield (
            f"{place}: {unlearned:,} of the texts looked at have no token that is learned: their prompts are longer "
            f"than maxLength {stage.max_length}. Raise it, or shorten the prompts"
        )
    yield from row_warnings.of_stage(
        stage.name,
        rows=sum(one.counts.rows for one in train),
        cut=sum(one.counts.truncated + one.counts.skipped + one.counts.dropped for one in train),
        markers=sum(one.counts.markers for one in train),
        apart=sum(one.counts.apart for one in train),
        max_length=stage.max_length,
        median=view.lengths.median if view.lengths else None,
    )
    padding = view.cost.extent.padding if view.cost else 0.0
    # Of a handful of rows the last one is seldom full.
    if padding > _MUCH_PADDING and view.tokens.value > _MANY_ROWS * stage.max_length:
        yield (
            f"{place}: {padding:.0%} of the packed rows is padding, which is computed for nothing. A larger maxLength "
            "leaves less"
        )
    for file in view.files:
        if file.blank:
            yield blank_rows.line(file.name, file.blank, of=f" of {file.looked_at:,}")
        for name, count in list(file.unused.items())[:MOST_PROBLEMS]:
            yield f"{file.name}: the field {name!r} of {count:,} of {file.looked_at:,} rows is not used"
        if (more := len(file.unused) - MOST_PROBLEMS) > 0:
            yield f"{file.name}: nor are {more} other fields"


def _held(plan: Plan, seen: Look, power: Sequence[gate_power.Power], unseen: str) -> HeldOutView:
    """`unseen` is why some of what is judged by may be left out yet."""
    held, apart, pairs = seen.overlaps.held, seen.held, seen.overlaps.pairs
    return HeldOutView(
        documents=len(held.documents),
        conversations=len(held.conversations),
        of_tasks=len(held.tasks),
        left_out=LeftOutView(
            documents=len(held.documents) - len(apart.documents),
            conversations=len(held.conversations) - len(apart.conversations),
            of_tasks=len(held.tasks) - len(apart.tasks),
        ),
        prompts=len(held.prompts),
        judge=judge_questions.line(plan, apart) or "",
        # What of the others was not read either cannot be, and is a problem.
        tasks=[task.name for task in plan.evaluation.tasks if harness_tasks.of_hub(task)],
        overlaps=[
            OverlapView(
                held=p["held"],
                training=p["training"],
                rule=p["rule"],
                share=p["share"],
                discounted=p.get("discounted", ""),
            )
            for p in pairs[:MOST_OVERLAPS]
        ],
        more=max(0, len(pairs) - MOST_OVERLAPS),
        gates=[
            GatePower(
                gate=one.gate,
                says=one.says,
                never="" if one.passable else one.named,
                unsure=unseen if one.of_texts else "",
            )
            for one in power
        ],
    )


def _model(plan: Plan) -> str:
    scratch = plan.model.scratch
    if scratch is None:
        return str(plan.model.from_)
    return f"a new {scratch.architecture} of {scratch.layers} layers, {scratch.hidden_size} wide"


def _tokenizer(words: RunTokenizer | None) -> str:
    if words is None:
        return "none could be made"
    template = "its own chat template" if words.template == "Own" else f"the chat template {words.template}"
    return f"{len(words.words):,} tokens, {template}"
