"""What an attempt before this one has prepared, where it has ended and every byte of it is still there."""

from __future__ import annotations

import json
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import uris
from slipway_trainer.batches.shards import Shards
from slipway_trainer.data.held_out import digest_of_copies
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.prepare.prepare_report import VERSION
from slipway_trainer.step.errors import BadConfig, DamagedShard
from slipway_trainer.step.progress import Say


def finished(plan: Plan, workspace: Workspace, say: Say, *, held_out: str | None = None) -> dict[str, Any] | None:
    """Returns the report of a preparation that has ended and of which every byte is still there; else None.

    Args:
        held_out: digest of the held-out data by the run's record, which others than prepare cannot write; None where
            none has been recorded yet.

    Raises BadConfig where a run goes on in the folder of an earlier one, and that had another plan.
    """
    try:
        report = json.loads(workspace.prepared.read_text(encoding="utf-8"))
        if plan.folder is not None and report["plan_digest"] != plan.digest:
            # Its checkpoints would be taken for this run's where the data is the same.
            raise BadConfig(
                f"the folder {plan.folder}, in which this run was to go on, is that of another plan "
                f"({report['plan_digest']}, not {plan.digest}): its record is wrong. Delete this run, and create it "
                "under another name"
            )
        if report["version"] != VERSION or report["plan_digest"] != plan.digest:
            return None
        _verify(report, workspace)
        if held_out not in (None, report["evaluation"]["digest"]):
            raise DamagedShard(f"its held-out data has the digest {report['evaluation']['digest']}, not {held_out}")
        if plan.model.from_ is not None and uris.parse(plan.model.from_).remote:
            model_folder(plan.model.from_, fetched=workspace.fetched_models)
    except FileNotFoundError:
        return None
    except (DamagedShard, KeyError, ValueError, OSError) as error:
        say(f"what was prepared before is damaged and is made again: {error}")
        return None
    say(f"nothing to do: the data was prepared before ({report['digest']})")
    return report


def _verify(report: dict[str, Any], workspace: Workspace) -> None:
    """Raises DamagedShard when something is not what the report says."""
    for stage, splits in report["stages"].items():
        for split, details in splits.items():
            found = Shards.open(workspace.stage(stage).data(split)).digest
            if found != details["digest"]:
                raise DamagedShard(f"{stage}/{split} has the digest {found} and {details['digest']} was written")
    if artifact.digest_of(artifact.hash_folder(workspace.tokenizer)) != report["tokenizer"]["digest"]:
        raise DamagedShard(f"{workspace.tokenizer} was changed")
    for name, digest in report["evaluation"]["copies"].items():
        if artifact.hash_file(workspace.evaluation_data / name).sha256 != digest:
            raise DamagedShard(f"{workspace.evaluation_data / name} was changed")
    if digest_of_copies(report["evaluation"]["copies"]) != report["evaluation"]["digest"]:
        raise DamagedShard(f"{workspace.prepared} was changed")
