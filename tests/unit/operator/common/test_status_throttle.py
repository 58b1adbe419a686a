import pytest

from slipway_core.resources.status import Condition, EndpointStatus, Phase, Progress, RunStatus, StepState, StepStatus
from slipway_operator.common.status_throttle import StatusThrottle, settled_endpoint, settled_run


def a_status(*, step: int = 0, message: str = "", state: StepState = StepState.RUNNING, phase: Phase = Phase.TRAINING):
    condition = Condition(
        type="Progressing",
        status="True",
        reason="Training",
        message=message,
        last_transition_time="2026-01-01T00:00:00Z",
    )
    return RunStatus(
        phase=phase,
        conditions=[condition],
        stages=[StepStatus(name="learn", state=state, progress=Progress(step=step))],
    )


def test_F_progress_alone_is_written_at_most_once_in_the_interval():
    now = [100.0]
    writes = StatusThrottle(settled_run, lambda: now[0], 10)
    assert writes.wait("u", a_status(), a_status()) is None
    assert writes.wait("u", a_status(), a_status(step=1, message="step 1")) == 0
    writes.written("u")
    now[0] = 104.0
    assert writes.wait("u", a_status(step=1), a_status(step=2)) == 6
    assert writes.wait("other", a_status(step=1), a_status(step=2)) == 0
    now[0] = 110.0
    assert writes.wait("u", a_status(step=1), a_status(step=3)) == 0


def test_what_happened_is_written_at_once():
    writes = StatusThrottle(settled_run, lambda: 100.0, 10)
    writes.written("u")
    assert writes.wait("u", a_status(), a_status(phase=Phase.EXPORTING)) == 0
    assert writes.wait("u", a_status(step=1), a_status(step=2, state=StepState.SUCCEEDED)) == 0


@pytest.mark.parametrize("settle", [settled_run, settled_endpoint])
def test_F_numbers_in_the_words_of_a_condition_wait_and_another_reason_does_not(settle):
    def status(message: str, reason: str = "NoNodeFits"):
        kind = RunStatus if settle is settled_run else EndpointStatus
        since = "2026-01-01T00:00:00Z"
        told = Condition(
            type="Unschedulable", status="True", reason=reason, message=message, last_transition_time=since
        )
        return kind(conditions=[told])

    assert settle(status("0/50 nodes: 12 Insufficient cpu")) == settle(status("0/51 nodes: 13 Insufficient cpu"))
    assert settle(status("0/50 nodes")) != settle(status("0/50 nodes", "NoAccelerator"))


def test_F_what_a_step_finds_while_it_runs_waits_as_its_progress_does():
    def status(*found: str, state: StepState = StepState.RUNNING) -> RunStatus:
        stage = StepStatus(name="prepare", state=state, progress=Progress(warnings=list(found) or None))
        return RunStatus(stages=[stage], warnings=len(found) or None)

    writes = StatusThrottle(settled_run, lambda: 100.0, 10)
    writes.written("u")
    assert writes.wait("u", status(), status("the judge does not answer")) == 10
    assert writes.wait("u", status("a"), status("a", "b", state=StepState.SUCCEEDED)) == 0
