"""Where everything of a run lies. The one place that knows the layout; it computes paths and touches nothing.

```
<workspace>/plan.json
            tokenizer/                       the run's tokenizer with its chat template (prepare)
            prepare.json                     digests, counts and reports of what was prepared
            evaluation-data/                 documents, prompts and rows of tasks, as evaluate reads them (prepare)
            overlap.jsonl                    what of the held-out data stands in the training data, where some does
            duplicates.jsonl                 rows that a stage does not learn since others say the same, where some are
            training-passages.npy            a sample of what is learned, for the artifact (prepare)
            fetched/                         what was brought from an object store or the hub: the base model, which
                                             stays, data files of a store, which go once they are prepared, and the live
                                             version, which goes once it is compared with; the commits of
                                             datasets of the hub, and what a judge model said, which stay
            stages/<name>/fence              number of the attempt that may write here
                          data/{train,validation}/  memory-mapped token shards with their digests
                          resolved.json      what was decided on the device: precision, ZeRO stage, targets
                          metrics.jsonl      one row a logged step
                          tracking.json      what each tracker has of it, and where it is seen
                          checkpoints/step-00000100/
                          model/ or adapter/ what the stage ended with, and stage.json that says so
            evaluation/<n>/report.json       n is the number of the evaluate attempt
                           samples.jsonl     every prompt with its answer
                           live-samples.jsonl  the live version's answers to the first of them
                           judge.jsonl       what a judge model was asked and what it said, where a gate has one
                           parity.json       what a server of the model proves itself by
            artifact/                        the model as it is served, with manifest.json
            gguf/                            the same as one file for llama.cpp and Ollama, where the run wants that
            tensorboard/                     event files, where the run is tracked there
            wandb/                           what was not sent, where W&B is told to work offline
            results/<step>-<attempt>.json    local executor only: what SLIPWAY_RESULT names
            logs/<step>-<attempt>.log        local executor only
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway_core.resources.training_run import Storage, TrainingRun

WORKSPACE_CLAIM: Final = "slipway-workspace"
"""The claim that holds the workspaces of a namespace whose runs name no storage."""
PARITY: Final = "parity.json"
"""Name of a record of parity, in the folder of its evaluation."""
WORKSPACE_MOUNT: Final = "/workspace"
"""Where a pod has that claim."""


def short_uid(uid: str) -> str:
    return uid.replace("-", "")[:8]


def run_folder(run: str, uid: str) -> str:
    """Folder of a run in its workspace claim."""
    return f"{run}-{short_uid(uid)}"


def claim_of(storage: Storage | None) -> str:
    """Returns the claim that a storage names; that of the namespace where it names none."""
    return storage.claim_name if storage and storage.claim_name else WORKSPACE_CLAIM


def folder_of(run: TrainingRun) -> str:
    """Returns the folder of a run in its claim; one that was created again may go on in an earlier one's."""
    pinned = run.status.folder if run.status is not None else None
    return pinned or run_folder(run.name, run.metadata.uid or "")


def parity_uri(artifact: str, evaluation: int) -> str:
    """Returns the URI of the record that an evaluation of a run's artifact left, by the URI of that artifact."""
    return f"{artifact.rstrip('/').rpartition('/')[0]}/evaluation/{evaluation}/{PARITY}"


def is_run_folder(name: str) -> bool:
    """Whether a folder of a claim may be a run's, by its name."""
    return re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?-[0-9a-f]{8}", name) is not None


def is_folder_of(run: str, name: str) -> bool:
    """Whether a folder of a claim may be that of a run of this name, this one or an earlier one."""
    return name.startswith(f"{run}-") and re.fullmatch(r"[0-9a-f]{8}", name.removeprefix(f"{run}-")) is not None


_ENTRIES = frozenset(
    (
        "plan.json",
        "tokenizer",
        "prepare.json",
        "evaluation-data",
        "overlap.jsonl",
        "duplicates.jsonl",
        "training-passages.npy",
        "fetched",
        "stages",
        "evaluation",
        "artifact",
        "gguf",
        "tensorboard",
        "wandb",
        "results",
        "logs",
    )
)


def is_entry(name: str) -> bool:
    """Whether a run makes something of this name in its workspace: a part of the layout above, or what becomes one
    by a rename (hidden, or called after it with the number of the attempt)."""
    return name.startswith(".") or re.sub(r"\.(tmp|old)-[0-9]+$", "", name) in _ENTRIES


@dataclass(frozen=True)
class Workspace:
    root: Path

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer"

    @property
    def prepared(self) -> Path:
        """Written last by prepare: while it is absent, nothing was prepared."""
        return self.root / "prepare.json"

    @property
    def overlap(self) -> Path:
        """Rows {"held", "training", "rule", "share"}: each held-out text that was found, with the first place of it."""
        return self.root / "overlap.jsonl"

    @property
    def duplicates(self) -> Path:
        """Rows {"stage", "row", "of", "rule", "share", "text"}: every training row that is left out, and for which."""
        return self.root / "duplicates.jsonl"

    @property
    def passages(self) -> Path:
        """A sample of the passages of the training data, which goes with the model."""
        return self.root / "training-passages.npy"

    @property
    def evaluation_data(self) -> Path:
        """Copies of the held-out documents and prompts, so that a later edit of their sources changes nothing."""
        return self.root / "evaluation-data"

    @property
    def evaluation_documents(self) -> Path:
        """Rows {"text"}, as they are scored."""
        return self.evaluation_data / "documents.jsonl"

    @property
    def evaluation_conversations(self) -> Path:
        """Rows {"turns"}, whose answers are scored; there where some are held out."""
        return self.evaluation_data / "conversations.jsonl"

    @property
    def evaluation_prompts(self) -> Path:
        """Rows {"conversations", "answer", "recall"}: a prompt as a conversation that the model continues."""
        return self.evaluation_data / "prompts.jsonl"

    @property
    def evaluation_tasks(self) -> Path:
        """Which tasks of lm-evaluation-harness are judged, and how; their rows lie beside it as Parquet."""
        return self.evaluation_data / "tasks.json"

    @property
    def fetched(self) -> Path:
        """All of it, whole or in part: what an attempt has brought of it the next one need not bring."""
        return self.root / "fetched"

    @property
    def fetched_models(self) -> Path:
        """The base model of a store or the hub: fetched once, by prepare, so that all steps start from the same."""
        return self.fetched / "models"

    @property
    def fetched_data(self) -> Path:
        """Files of an object store while prepare reads them; a later attempt goes on with what is there."""
        return self.fetched / "data"

    @property
    def fetched_commits(self) -> Path:
        """The commit of each dataset of the hub, which its branch had when the run first asked."""
        return self.fetched / "commits"

    @property
    def fetched_live(self) -> Path:
        """The live version, while evaluate compares with it."""
        return self.fetched / "live"

    @property
    def fetched_verdicts(self) -> Path:
        """What a judge model has said, by the request: what was paid for once is not asked again."""
        return self.fetched / "judge" / "replies.jsonl"

    @property
    def artifact(self) -> Path:
        return self.root / "artifact"

    @property
    def gguf(self) -> Path:
        """model.gguf, its Modelfile, and gguf.json, which says of which artifact they are."""
        return self.root / "gguf"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def wandb(self) -> Path:
        """Where W&B keeps what it does not send (WANDB_MODE=offline)."""
        return self.root / "wandb"

    def stage(self, stage: str) -> StageFolder:
        return StageFolder(self.root / "stages" / stage)

    def evaluation(self, number: int) -> Path:
        return self.root / "evaluation" / str(number)

    def report(self, number: int) -> Path:
        return self.evaluation(number) / "report.json"

    def samples(self, number: int) -> Path:
        return self.evaluation(number) / "samples.jsonl"

    def live_samples(self, number: int) -> Path:
        return self.evaluation(number) / "live-samples.jsonl"

    def judge(self, number: int) -> Path:
        """What a judge model was asked and what it said; absent where none was asked."""
        return self.evaluation(number) / "judge.jsonl"

    def parity(self, number: int) -> Path:
        """What a server of the model that was judged compares itself with; absent where there can be no such record."""
        return self.evaluation(number) / PARITY

    def fence(self, step: str) -> Path:
        """Holds the number of the newest attempt of a step; a writer of an older one stops when it sees it."""
        return self.root / "stages" / step / "fence"

    def result(self, step: str, attempt: int) -> Path:
        return self.root / "results" / f"{step}-{attempt}.json"

    def log(self, step: str, attempt: int) -> Path:
        return self.root / "logs" / f"{step}-{attempt}.log"


@dataclass(frozen=True)
class StageFolder:
    root: Path

    def data(self, split: str) -> Path:
        """`split` is train or validation."""
        return self.root / "data" / split

    @property
    def resolved(self) -> Path:
        return self.root / "resolved.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def tracking(self) -> Path:
        """What each tracker has of the stage; of the step publish, of the verdict."""
        return self.root / "tracking.json"

    @property
    def reference(self) -> Path:
        """Of a stage that learns preferences: what the model that it began with says of its pairs."""
        return self.root / "reference.npz"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}"

    @property
    def model(self) -> Path:
        """Full weights in the format of Hugging Face."""
        return self.root / "model"

    @property
    def adapter(self) -> Path:
        """A PEFT adapter on top of the model that the stage started from."""
        return self.root / "adapter"

    @property
    def done(self) -> Path:
        """Written last by train: which of model and adapter the stage ended with, and its digest."""
        return self.root / "stage.json"
