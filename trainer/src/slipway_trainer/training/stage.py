"""What one rank does in a training stage: set up, go on where the last attempt was, train, and write the outcome."""

from __future__ import annotations

import json
import os
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slipway_core.plan import Plan
from slipway_core.protocol import step_result
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.stage import Stage
from slipway_core.resources.status import Progress
from slipway_trainer.batches import row_stream
from slipway_trainer.batches.row_stream import RowStream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import lineage, stage_model
from slipway_trainer.model.next_token_loss import NextTokenLoss
from slipway_trainer.step import disk_space, machine
from slipway_trainer.step.errors import BadConfig, BadData, Diverged, LostPeers, NoSpace, OutOfMemory, StepFailure
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Metrics, Reporter
from slipway_trainer.step.signals import StopFlag
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import engine as engines
from slipway_trainer.training import launch, memory, optimizer, resolved, stage_output
from slipway_trainer.training.checkpoint import Checkpoints, TrainState
from slipway_trainer.training.engine import DTYPES, Precision, Ranks
from slipway_trainer.training.loop import Training
from slipway_trainer.training.memory import Machine, ModelSize
from slipway_trainer.training.resolved import Resolved
from slipway_trainer.training.validation import ValidationSet

SPARE_BYTES = 16 << 20


def train_stage(
    plan: Plan, ws: Workspace, *, stage: str, attempt: int, ranks: Ranks, stop: StopFlag | None = None
) -> StepResult:
    """Trains a stage as one rank of it. The result is that of rank 0.

    From its first step on a stage ends at the end of a step, when `stop` says so: by itself that is a flag that SIGTERM
    and SIGINT set. Before, a signal ends the process wherever it is.

    Raises LostPeers when another rank failed first, OutOfMemory, and what `Training.train` raises.
    """
    reporter = Reporter(stage) if ranks.first else None
    if reporter:
        reporter.serve()
    try:
        return _Stage(plan, ws, stage, attempt, ranks, stop, reporter).run()
    except StepFailure as failure:
        failure.progress = reporter.reached() if reporter else None
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(next(iter(str(error).splitlines()), "out of memory")) from None
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "No space left on device" in first_line and not isinstance(error, OSError):
            # safetensors wraps what the system said.
            raise NoSpace(f"{ws.stage(stage).root}: {first_line}. Free space there and start again") from None
        if "loss scale already at minimum" in first_line:
            raise Diverged(
                "fp16 gradients overflow at the smallest loss scale. Lower optimizer.learningRate, or use "
                "precision: BF16"
            ) from None
        if ranks.world > 1 and launch.is_lost_peer(error):
            raise LostPeers(f"rank {ranks.rank} lost the others: {first_line}") from None
        raise
    finally:
        if reporter:
            reporter.close()


class _Stage:
    def __init__(
        self,
        plan: Plan,
        ws: Workspace,
        name: str,
        attempt: int,
        ranks: Ranks,
        stop: StopFlag | None,
        reporter: Reporter | None,
    ) -> None:
        self.plan = plan
        self.ws = ws
        self.settings = plan.stage(name)
        self.folder = ws.stage(name)
        self.attempt = attempt
        self.ranks = ranks
        self.stop = stop
        self.reporter = reporter
        self.fence = Fence(ws.fence(name), attempt)

    def run(self) -> StepResult:
        self._say("loading data and model")
        _set_threads(self.ranks)
        shards, validation = self._data()
        engines.connect(self.ranks)
        words = tokenizer.load(self.ws)
        pad_id = int(words.pad_token_id)  # type: ignore[arg-type]
        stream = RowStream(shards, seed=self.settings.seed, max_length=self.settings.max_length)
        # Rank 0 reads it for all: another rank might read what rank 0 has written since.
        decided = _shared(resolved.read(self.folder.resolved), self.ranks)
        precision = decided.precision if decided else precision_of(self.settings, self.ranks.device)
        model = stage_model.load_for_stage(
            self.plan,
            self.ws,
            self.settings.name,
            device=self.ranks.device,
            dtype=DTYPES[precision],
            target_modules=decided.target_modules if decided else None,
        )
        decided = decided or self._decide(model, precision, stream, shards)
        self._check(decided, shards)
        engine = self._engine(model, decided)
        checkpoints = Checkpoints(
            self.folder, keep=self.plan.checkpoints.keep, fence=self.fence, ranks=self.ranks, log=self._log
        )
        self._require_space(model, checkpoints)
        state, saved_step = self._resume(engine, checkpoints)
        stop = self.stop or StopFlag().install()
        training = Training(
            stage=self.settings,
            engine=engine,
            shards=shards,
            stream=stream,
            extent=row_stream.Extent(decided.total_rows, decided.total_steps, decided.sequences),
            validation=self._validation(validation, decided, pad_id),
            checkpoints=checkpoints,
            every_steps=self.plan.checkpoints.every_steps,
            resolved=decided,
            ranks=self.ranks,
            fence=self.fence,
            stop=stop,
            pad_id=pad_id,
            reporter=self.reporter,
            metrics=Metrics(self.folder.metrics, after_step=state.step) if self.ranks.first else None,
            saved_step=saved_step,
        )
        if self.reporter:
            self.reporter.progress = Progress(
                step=state.step,
                total=decided.total_steps,
                epoch=state.epoch,
                tokens=state.tokens,
                loss=state.loss,
                validation_loss=state.validation_loss,
            )
        try:
            state = training.train(state)
        finally:
            if training.metrics:
                training.metrics.close()
            if stop is not self.stop:
                stop.restore()
        return self._end(engine, checkpoints, state, decided)

    def _data(self) -> tuple[Shards, Shards | None]:
        if not self.ws.prepared.is_file():
            raise BadData(f"{self.ws.prepared}: there is no such file: the data was not prepared. Run prepare first")
        validation = self.folder.data("validation")
        asked = self.settings.data.validation is not None
        return Shards.open(self.folder.data("train")), Shards.open(validation) if asked else None

    def _validation(self, shards: Shards | None, decided: Resolved, pad_id: int) -> ValidationSet | None:
        if shards is None or shards.n_documents == 0:
            return None
        return ValidationSet(
            shards,
            max_length=self.settings.max_length,
            pad_id=pad_id,
            micro_batch=decided.micro_batch,
            rank=self.ranks.rank,
            world=self.ranks.world,
        )

    def _decide(self, model: Any, precision: Precision, stream: RowStream, shards: Shards) -> Resolved:
        """Decides what the plan leaves to the device, writes it down once, and says why."""
        extent = row_stream.extent(self.settings, stream)
        size = ModelSize.of(
            model.config,
            parameters=sum(p.numel() for p in model.parameters()),
            trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        )
        device = self.ranks.device.type
        free = machine.free_bytes(device, self.ranks.local_world)
        choice = memory.choose(
            size, self.settings, precision, Machine(device, free, self.ranks.world), extent.sequences
        )
        # Every rank sees another amount of free memory.
        choice = _shared(choice, self.ranks)
        adapter = self.settings.adapter
        decided = Resolved(
            precision=precision,
            zero_stage=choice.zero_stage,
            micro_batch=choice.micro_batch,
            gradient_checkpointing=choice.gradient_checkpointing,
            attention=model.config._attn_implementation,
            target_modules=sorted(model.peft_config["default"].target_modules) if adapter else None,
            world_size=self.ranks.world,
            sequences=extent.sequences,
            total_rows=extent.rows,
            total_steps=extent.steps,
            data_digest=shards.digest,
            versions=lineage.libraries(),
            reasons=choice.reasons | {"precision": _precision_reason(self.settings, device)},
        )
        if self.ranks.first:
            self.fence.check()
            decided.write(self.folder.resolved)
            self._describe(decided, size)
        return decided

    def _describe(self, decided: Resolved, size: ModelSize) -> None:
        why = decided.reasons
        checkpointing = "on" if decided.gradient_checkpointing else "off"
        self._log(
            f"{size.parameters / 1e6:,.2f}M weights, {size.trainable / 1e6:,.2f}M of them trained; "
            f"{decided.total_steps} steps of {decided.sequences} rows"
        )
        self._log(f"precision {decided.precision}: {why['precision']}")
        self._log(f"ZeRO stage {decided.zero_stage} over {decided.world_size} process(es): {why['zeroStage']}")
        self._log(f"{decided.micro_batch} rows at once: {why['batch.microSequences']}")
        self._log(f"gradient checkpointing {checkpointing}: {why['gradientCheckpointing']}")
        if decided.target_modules:
            self._log(f"adapter on {', '.join(decided.target_modules)}")

    def _check(self, decided: Resolved, shards: Shards) -> None:
        if decided.data_digest != shards.digest:
            raise BadData(
                f"{shards.folder}: is not the data that this stage began with ({shards.digest[:19]}… is there, "
                f"{decided.data_digest[:19]}… was). Start a run under another name"
            )
        if self.ranks.first and decided.world_size != self.ranks.world:
            self._log(f"began with {decided.world_size} process(es), goes on with {self.ranks.world}")

    def _engine(self, model: Any, decided: Resolved) -> Any:
        if decided.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        module = NextTokenLoss(model, attention=decided.attention)
        settings = self.settings.optimizer
        config = engines.configuration(
            precision=decided.precision,
            zero_stage=decided.zero_stage,
            micro_batch=decided.micro_batch,
            max_grad_norm=settings.max_grad_norm,
            world=self.ranks.world,
        )
        engine = engines.initialize(module, optimizer.adamw(module, settings, self.ranks.device), config)
        # What is random from here on (dropout) differs between ranks, as their rows do.
        seed_everything(self.settings.seed * 10_007 + self.ranks.rank)
        return engine

    def _resume(self, engine: Any, checkpoints: Checkpoints) -> tuple[TrainState, int | None]:
        had_any = bool(checkpoints.complete()) if self.ranks.first else False
        checkpoints.clean()
        found = checkpoints.newest()
        if found is None:
            if had_any:
                self._log("no complete checkpoint is left: starting over")
            return TrainState(), None
        path, state = found
        checkpoints.load(engine, path, state)
        self._log(f"going on from step {state.step} ({path.name})")
        return state, state.step

    def _require_space(self, model: Any, checkpoints: Checkpoints) -> None:
        if not self.ranks.first:
            return
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        one = trainable * (4 + 4 + 8) + SPARE_BYTES
        there = len(checkpoints.complete()) if self.folder.checkpoints.is_dir() else 0
        copies = max(1, self.plan.checkpoints.keep + 2 - there)
        needed = copies * one
        disk_space.require(
            self.folder.root,
            needed,
            lambda free: (
                f"{copies} checkpoints take {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free. "
                "Free space there, or lower checkpoints.keep"
            ),
        )

    def _end(self, engine: Any, checkpoints: Checkpoints, state: TrainState, decided: Resolved) -> StepResult:
        """Writes the weights that `select` asks for, and says how the stage went."""
        step, validation_loss = state.step, state.validation_loss
        if self.settings.select == "Best" and state.best_step not in (None, state.step):
            assert state.best_step is not None
            step, validation_loss = state.best_step, state.best_loss
            checkpoints.load_weights(engine, self.folder.checkpoint(step))
        self._say("writing the model")
        adapter = self.settings.adapter is not None
        weights = engines.gathered_state(engine, trainable_only=adapter)
        speed = state.tokens / state.seconds if state.seconds else 0.0
        metrics = {
            "loss": state.loss,
            "validation_loss": validation_loss,
            "steps": float(state.step),
            "selected_step": float(step),
            "tokens": float(state.tokens),
            "seconds": round(state.seconds, 3),
            "tokens_per_second": round(speed, 1),
        }
        progress = Progress(
            step=state.step,
            total=decided.total_steps,
            epoch=state.epoch,
            tokens=state.tokens,
            loss=state.loss,
            validation_loss=validation_loss,
            tokens_per_second=round(speed, 1),
            eta_seconds=0.0,
        )
        finite, missing = step_result.split_finite({k: v for k, v in metrics.items() if v is not None})
        if not self.ranks.first:
            return StepResult(step=self.settings.name, attempt=self.attempt)
        ended = stage_output.publish(
            self.folder,
            lambda path: _write(engine.module.model, weights, path, adapter=adapter),
            kind="adapter" if adapter else "model",
            step=step,
            metrics=finite,
            progress=progress,
            fence=self.fence,
        )
        if state.step < decided.total_steps:
            self._log(f"stopped early at step {state.step}: the validation loss has not fallen any more")
        self._log(f"done: {ended.kind} of step {step}")
        return stage_output.result(ended, stage=self.settings.name, attempt=self.attempt).model_copy(
            update={"missing": missing}
        )

    def _say(self, message: str | None) -> None:
        if self.reporter:
            self.reporter.say(message)

    def _log(self, message: str) -> None:
        if self.reporter:
            self.reporter.log(message)


def precision_of(stage: Stage, device: torch.device) -> Precision:
    """Returns the precision of a stage on this device. Raises BadConfig for fp16 on a CPU, which has no use for it."""
    if stage.precision == "FP16" and device.type == "cpu":
        raise BadConfig(f"stages[{stage.name}].precision: FP16 needs a GPU; use FP32, BF16 or Auto on a CPU")
    if stage.precision != "Auto":
        return stage.precision
    if device.type == "cpu":
        return "FP32"
    return "BF16" if torch.cuda.is_bf16_supported(including_emulation=False) else "FP16"


def _precision_reason(stage: Stage, device: str) -> str:
    return "set in the plan" if stage.precision != "Auto" else f"the best that this {device} has"


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return (
        isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in text
        or "CUDA out of memory" in text
    )


def _write(model: Any, weights: dict[str, torch.Tensor], path: Path, *, adapter: bool) -> None:
    path.mkdir(parents=True)
    if not adapter:
        model.config.use_cache = True
        model.save_pretrained(str(path), state_dict=weights)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(path), state_dict=weights, save_embedding_layers=False)
    (path / "README.md").unlink(missing_ok=True)
    config = path / "adapter_config.json"
    # A path of this machine otherwise; the adapter's base is what the stage before it left.
    settings = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _shared(value: Any, ranks: Ranks) -> Any:
    """Returns rank 0's value."""
    if ranks.world == 1:
        return value
    listed: list[Any] = [value]
    torch.distributed.broadcast_object_list(listed, src=0)
    return listed[0]


def _set_threads(ranks: Ranks) -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, machine.physical_cores() // ranks.local_world))
