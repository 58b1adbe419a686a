"""What each gate of a plan is going to be measured on, by the digest that an endpoint's required gate names.

It is made of copies as prepare makes them, by the same code: of the same data the digest is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipway_core.lifecycle.verdict import threshold
from slipway_core.plan import Plan
from slipway_core.protocol.preview import GateData
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import titled
from slipway_trainer.data import gate_data
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.prepare import gate_rows, harness_tasks, held_out_copies
from slipway_trainer.prepare.harness_tasks import CopiedTask
from slipway_trainer.preview.look import Look

_OF_THE_HUB = (
    "the rows of the task are of the hub; prepare fetches them, at the commit that they have then, and tells the "
    "digest before anything is trained. Give them as `data` of the task to have it here"
)
_UNREADABLE = "its rows could not be read"
_NO_ROWS = "it has no rows"


def of_plan(
    plan: Plan, tasks: Sequence[CopiedTask], seen: Look, workspace: Workspace, *, base_read: bool
) -> list[GateData]:
    """Returns one for each gate of a plan, in its order.

    Args:
        tasks: those whose rows lie in the workspace.
        seen: with what is judged by.
        workspace: for what is kept meanwhile.
        base_read: whether what the base model has learned was looked up, as far as it says so.
    """
    kept = gate_rows.usable(seen.held)
    copies = held_out_copies.copy(kept, workspace) | harness_tasks.publish(tasks, kept.tasks, workspace)
    copied = {None, *(one.task.asked.name for one in tasks)}
    gates = [gate for gate in plan.evaluation.gates if gate.task in copied]
    evaluation = plan.evaluation.model_copy(update={"gates": gates})
    digests = iter(gate_data.of_gates(plan.model_copy(update={"evaluation": evaluation}), workspace, copies))
    unseen = not_looked_at(plan, seen, base_read=base_read)
    unsure = f"{unseen}, and tells another digest then" if unseen else ""
    return [
        _of_gate(plan, gate, next(digests) if gate.task in copied else None, kept, unsure)
        for gate in plan.evaluation.gates
    ]


def _of_gate(plan: Plan, gate: Gate, digest: str | None, kept: HeldOut, unsure: str) -> GateData:
    title = titled(gate.metric, gate.source, gate.slice, gate.task)
    asked = f"{title} {threshold(gate, plan.evaluation.win_rate_over)}"
    if digest is None:
        task = next(one for one in plan.evaluation.tasks if one.name == gate.task)
        return GateData(gate=asked, unsure=_OF_THE_HUB if harness_tasks.of_hub(task) else _UNREADABLE)
    if not gate_rows.all_of(gate, kept):
        return GateData(gate=asked, unsure=_NO_ROWS)
    return GateData(gate=asked, digest=digest, unsure=unsure)


def not_looked_at(plan: Plan, seen: Look, *, base_read: bool) -> str:
    """Returns why prepare may leave more of the rows out; nothing where it cannot."""
    if plan.evaluation.on_overlap != "Drop":
        return ""
    unseen: list[str] = []
    if not base_read:
        unseen.append("the base model was not looked at: prepare leaves out what it has learned")
    if seen.share < 1:
        rows = f"{seen.share:.1%} of the training rows were looked at"
        unseen.append(f"{rows}: prepare leaves out what stands in the others too")
    return f"{'; '.join(unseen)} (onOverlap: Drop)" if unseen else ""
