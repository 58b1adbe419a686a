"""The local executor with real processes, real signals and real files; a stand-in plays the trainer."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.core.runs import a_run

from slipway.local.processes import ProcessId
from slipway.local.runs.admission import Refused, admit
from slipway.local.runs.attempts import Attempts
from slipway.local.runs.executor import Executor, utc_now
from slipway.local.state import BusyError, State, StateError
from slipway.local.statements import KeyLostError, Statements
from slipway_core import plan as plans
from slipway_core.protocol import trust
from slipway_core.resources.status import EndpointPhase, EndpointStatus, Phase, StepState, Verdict, VersionStatus

STAND_IN = Path(__file__).with_name("stand_in_trainer.py")


@pytest.fixture
def state(tmp_path):
    return State.below(tmp_path)


def make(state, monkeypatch, *, grace=10.0, run=None, **behaviours):
    script = state.root.parent / "behaviours.json"
    script.write_text(json.dumps(behaviours))
    monkeypatch.setenv("STAND_IN", str(script))
    run = run or a_run(serving=False)
    admitted = admit(state, run, state.root.parent / "run.yaml", datetime.now(UTC))
    attempts = Attempts(
        admitted.folder.attempts, admitted.folder.workspace(admitted.run), utc_now, grace,
        trainer=(sys.executable, str(STAND_IN)),
    )  # fmt: skip
    return Executor(state, admitted.folder, admitted.run, admitted.plan, attempts, lambda *_: None, tick=0.02)


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@contextmanager
def at_work(executor):
    """Lets the executor work in a thread of its own."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(executor.work()), daemon=True)
    thread.start()
    yield outcome, thread
    thread.join(30)
    assert not thread.is_alive()


def pid_of(executor, step, attempt=1):
    path = executor.attempts.workspace.root / f"{step}-{attempt}.pid"
    until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_run_goes_through_all_its_steps(state, monkeypatch):
    executor = make(state, monkeypatch)
    status = executor.work()
    assert status.phase is Phase.COMPLETED
    assert [s.state for s in status.stages] == [StepState.SUCCEEDED] * 4
    assert executor.folder.status() == status, "what is shown is what is written"


def test_H_prepare_and_evaluate_alone_have_the_key_of_a_judge(state, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "sk-judge")
    executor = make(state, monkeypatch)
    executor.work()
    assert sorted(path.name for path in executor.attempts.workspace.root.glob("*.judge-key")) == [
        "evaluate.judge-key", "prepare.judge-key",
    ]  # fmt: skip


TRACKED = {"tracking": {"tensorboard": {}}, "export": {"push": {"uri": "hf://org/name", "credentials": "hub"}}}


def told(executor, attempt=1):
    """What the environment of publish said of the verdict and the trackers."""
    return json.loads((executor.attempts.workspace.root / f"publish-{attempt}.told").read_text())


def test_a_verdict_is_published_before_the_command_ends(state, monkeypatch):
    executor = make(state, monkeypatch, run=a_run(serving=False, **TRACKED))
    status = executor.work()
    assert (status.phase, status.step("publish").state) == (Phase.COMPLETED, StepState.SUCCEEDED)
    published = next(c for c in status.conditions if c.type == "Published")
    assert (published.status, published.reason) == ("True", "Published")
    assert told(executor) == {"verdict": "Pass", "tracking": {"tensorboard": {}}}


def test_a_failed_gate_is_told_to_the_trackers(state, monkeypatch):
    executor = make(state, monkeypatch, run=a_run(serving=False, **TRACKED), evaluate=["poor"])
    status = executor.work()
    assert (status.phase, status.step("publish").state) == (Phase.REJECTED, StepState.SUCCEEDED)
    assert told(executor)["verdict"] == "Fail"


def test_a_push_alone_of_a_model_that_failed_starts_nothing(state, monkeypatch):
    run = a_run(serving=False, export=TRACKED["export"])
    executor = make(state, monkeypatch, run=run, evaluate=["poor"])
    assert executor.work().step("publish").attempt == 0


def test_a_tracker_that_is_away_costs_a_condition_and_starting_again_tries_again(state, monkeypatch):
    run = a_run(serving=False, retries=1, **TRACKED)
    behaviour = {"publish": ["crash", "bad data", "work"]}
    status = make(state, monkeypatch, run=run, **behaviour).work()
    assert (status.phase, status.evaluation.verdict) == (Phase.COMPLETED, Verdict.PASS)
    published = next(c for c in status.conditions if c.type == "Published")
    assert (published.status, published.reason) == ("False", "PublishFailed")
    assert status.step("publish").attempt == 2
    status = make(state, monkeypatch, run=run, **behaviour).work()
    assert next(c for c in status.conditions if c.type == "Published").status == "True"
    assert (status.step("publish").attempt, status.step("evaluate").attempt) == (3, 1)


def test_a_run_that_is_interrupted_while_it_is_published_ends_and_goes_on_later(state, monkeypatch):
    run = a_run(serving=False, **TRACKED)
    executor = make(state, monkeypatch, run=run, publish=["forever", "work"])
    with at_work(executor) as (outcome, _):
        pid = pid_of(executor, "publish")
        executor.interrupt()
    assert outcome[0].phase is Phase.COMPLETED
    assert gone(pid)
    status = make(state, monkeypatch, run=run, publish=["forever", "work"]).work()
    assert status.step("publish").state is StepState.SUCCEEDED


def test_an_interrupt_in_the_pass_that_starts_to_publish_ends_that_process_too(state, monkeypatch):
    executor = make(state, monkeypatch, run=a_run(serving=False, **TRACKED), publish=["forever"])
    start = executor.attempts.start

    def and_interrupted(wanted):
        start(wanted)
        if wanted.step == "publish":
            pid_of(executor, "publish")
            executor.interrupt()

    monkeypatch.setattr(executor.attempts, "start", and_interrupted)
    assert executor.work().phase is Phase.COMPLETED
    assert gone(pid_of(executor, "publish"))


def test_a_tracker_may_be_named_after_the_end(state, monkeypatch):
    make(state, monkeypatch, run=a_run(serving=False)).work()
    executor = make(state, monkeypatch, run=a_run(serving=False, tracking={"tensorboard": {}}))
    status = executor.work()
    assert (status.step("learn").attempt, status.step("publish").state) == (1, StepState.SUCCEEDED)


def test_starting_a_finished_run_again_starts_nothing(state, monkeypatch):
    make(state, monkeypatch).work()
    again = make(state, monkeypatch, prepare=["crash"])
    before = sorted(again.folder.attempts.iterdir())
    assert again.work().phase is Phase.COMPLETED
    assert sorted(again.folder.attempts.iterdir()) == before


def test_a_crash_is_tried_again_and_counted(state, monkeypatch):
    status = make(state, monkeypatch, prepare=["crash", "work"]).work()
    assert status.phase is Phase.COMPLETED
    assert (status.step("prepare").attempt, status.step("prepare").failures) == (2, 1)


def test_nothing_is_left_of_what_steps_put_aside(state, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        executor = make(state, monkeypatch, prepare=["crash", "work"], learn=["forever", "work"])
        with at_work(executor):
            os.kill(pid_of(executor, "learn"), signal.SIGKILL)
        assert executor.run.status.phase is Phase.COMPLETED
        assert os.listdir(folder) == []


def test_bad_data_ends_the_run_with_the_reason(state, monkeypatch):
    executor = make(state, monkeypatch, prepare=["bad data", "work"])
    status = executor.work()
    assert status.phase is Phase.FAILED
    assert "train.jsonl:3: is not JSON" in status.step("prepare").message
    mended = make(state, monkeypatch, prepare=["bad data", "work"])
    assert mended.work().phase is Phase.COMPLETED, "starting it again asks for another try"


def test_A_a_model_that_fails_its_gate_is_rejected_and_its_statement_says_so(state, monkeypatch):
    executor = make(state, monkeypatch, evaluate=["poor"])
    status = executor.work()
    assert status.phase is Phase.REJECTED
    stands = Statements(state).standing(status.artifact.digest)
    assert stands.newest is not None
    assert stands.newest.statement.predicate.verdict is Verdict.FAIL


def test_A_a_pass_leaves_a_statement_that_outlives_the_run(state, monkeypatch):
    executor = make(state, monkeypatch)
    status = executor.work()
    shutil.rmtree(executor.folder.root)
    assert Statements(state).standing(status.artifact.digest).passed


def test_D_an_interrupt_checkpoints_and_the_next_start_goes_on(state, monkeypatch):
    executor = make(state, monkeypatch, learn=["forever", "work"])
    with at_work(executor) as (outcome, _):
        pid = pid_of(executor, "learn")
        until(lambda: executor.run.status.step("learn").progress)
        executor.interrupt()
    assert outcome[0].phase is Phase.SUSPENDED
    assert gone(pid)
    again = make(state, monkeypatch, learn=["forever", "work"])
    status = again.work()
    assert status.phase is Phase.COMPLETED
    assert (status.step("learn").attempt, status.step("learn").failures) == (2, 0)


def test_D_an_interrupt_before_a_stage_can_answer_it_is_no_failure(state, monkeypatch):
    executor = make(state, monkeypatch, learn=["early", "work"])
    with at_work(executor) as (outcome, _):
        pid_of(executor, "learn")
        executor.interrupt()
    assert outcome[0].phase is Phase.SUSPENDED
    assert outcome[0].step("learn").failures == 0
    assert make(state, monkeypatch, learn=["early", "work"]).work().phase is Phase.COMPLETED


def test_a_second_interrupt_kills_what_does_not_end(state, monkeypatch):
    executor = make(state, monkeypatch, learn=["stubborn"], grace=600)
    with at_work(executor) as (outcome, thread):
        pid = pid_of(executor, "learn")
        executor.interrupt()
        time.sleep(0.3)
        assert thread.is_alive()
        executor.interrupt()
    assert outcome[0].phase is Phase.SUSPENDED
    assert gone(pid)
    assert outcome[0].step("learn").failures == 0, "who asks for it is not a failure of the step"


def test_a_process_that_does_not_end_is_killed_after_its_grace(state, monkeypatch):
    executor = make(state, monkeypatch, learn=["stubborn"], grace=0.3)
    with at_work(executor) as (outcome, _):
        pid = pid_of(executor, "learn")
        executor.interrupt()
    assert outcome[0].phase is Phase.SUSPENDED
    assert gone(pid)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import pytest
from tests.unit.cli.local.runs.test_executor import make, State
make(State.below(Path({folder!r})), pytest.MonkeyPatch(), learn=["forever", "work"]).work()
"""


def test_D_killing_the_executor_ends_its_stages_and_loses_nothing(state, monkeypatch, tmp_path):
    root = str(Path(__file__).parents[4])
    driver = subprocess.Popen([sys.executable, "-c", DRIVER.format(root=root, folder=str(tmp_path))])
    executor = None
    try:
        pid_file = state.root / "runs" / "demo"
        until(lambda: list(pid_file.glob("*/learn-1.pid")))
        pid = int(next(pid_file.glob("*/learn-1.pid")).read_text())
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    until(lambda: gone(pid))
    executor = make(state, monkeypatch, learn=["forever", "work"])
    status = executor.work()
    assert status.phase is Phase.COMPLETED
    assert (status.step("learn").attempt, status.step("learn").failures) == (2, 0)


def test_killing_a_stage_is_a_failure_that_is_tried_again(state, monkeypatch):
    executor = make(state, monkeypatch, learn=["forever", "work"])
    with at_work(executor) as (outcome, _):
        os.kill(pid_of(executor, "learn"), signal.SIGKILL)
    status = outcome[0]
    assert status.phase is Phase.COMPLETED
    assert status.step("learn").failures == 1


def test_E_the_same_name_with_another_plan_is_refused_and_the_fields_are_named(state, monkeypatch):
    make(state, monkeypatch)
    with pytest.raises(Refused, match=r"retries: 3 then, 7 now[\s\S]*slipway rm demo"):
        make(state, monkeypatch, run=a_run(serving=False, retries=7))


def test_E_a_run_that_an_older_release_planned_goes_on_with_its_plan(state, monkeypatch):
    path = make(state, monkeypatch).attempts.workspace.plan
    document = json.loads(path.read_text())
    del document["checkpoints"]["keep"]  # A field that the older release did not have.
    document["digest"] = plans.digest_in(json.dumps(document))
    path.write_text(json.dumps(document))
    executor = make(state, monkeypatch, run=a_run(serving=False, retention={"ttlAfterFinished": "1h"}))
    assert executor.work().phase is Phase.COMPLETED
    assert json.loads(path.read_text())["digest"] == document["digest"] == executor.plan.digest
    assert plans.load(path.read_text()).retention.ttl_after_finished == "1h"


def test_E_where_a_run_runs_may_be_edited_in_its_file_between_two_attempts(state, monkeypatch):
    executor = make(state, monkeypatch, learn=["forever", "work"])
    with at_work(executor):
        pid_of(executor, "learn")
        executor.interrupt()
    path, before = executor.attempts.workspace.plan, executor.plan
    edited = a_run(serving=False, compute={"processesPerNode": 2, "queue": "night"})
    executor = make(state, monkeypatch, run=edited, learn=["forever", "work"])
    assert executor.work().phase is Phase.COMPLETED
    assert executor.plan.digest == before.digest
    assert plans.load(path.read_text()).compute.processes_per_node == 2, "its processes read it there"
    assert executor.run.status.step("learn").processes_per_node == 2


def test_E_a_run_that_version_1_planned_keeps_its_processes(state, monkeypatch):
    executor = make(state, monkeypatch)
    path = executor.attempts.workspace.plan
    folder = json.loads(path.read_text())["evaluation"]["data"][0]["uri"].removeprefix("file://").rpartition("/")[0]
    defaults = plans.ExecutorDefaults(folder=folder)
    path.write_text(plans.resolve(executor.run, defaults, version=1).to_json())
    with pytest.raises(Refused, match=r"compute\.processesPerNode: 1 then, 2 now"):
        make(state, monkeypatch, run=a_run(serving=False, compute={"processesPerNode": 2}))
    assert make(state, monkeypatch).work().phase is Phase.COMPLETED
    assert json.loads(path.read_text())["version"] == 1


def test_two_at_once_are_refused_and_the_holder_is_named(state):
    folder = state.run("demo")
    with folder.lock():
        assert folder.holder() == os.getpid()
        with pytest.raises(BusyError, match=f"process {os.getpid()}"), folder.lock():
            pass
    assert folder.holder() is None


def test_a_run_that_failed_on_its_data_gives_way_to_the_mended_file(state, monkeypatch):
    assert make(state, monkeypatch, prepare=["bad data"]).work().phase is Phase.FAILED
    executor = make(state, monkeypatch, run=a_run(serving=False, retries=7))
    assert executor.plan.retries == 7
    assert executor.work().phase is Phase.COMPLETED


def test_what_a_run_has_written_is_not_asked_for_again(state, monkeypatch):
    executor = make(state, monkeypatch, learn=["bad data"])
    assert executor.work().phase is Phase.FAILED
    with (executor.attempts.workspace.root / "checkpoint").open("wb") as file:
        file.truncate(1 << 40)
    usage = shutil.disk_usage(state.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 << 20))
    assert make(state, monkeypatch).work().phase is Phase.COMPLETED


def test_too_little_disk_is_found_before_anything_starts(state, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
    with pytest.raises(Refused, match=r"1 MiB free and run demo needs about \d+ MiB"):
        make(state, monkeypatch)
    assert not state.run("demo").exists()


def test_F_a_pass_that_changes_nothing_writes_nothing(state, monkeypatch):
    executor = make(state, monkeypatch)
    executor.work()
    before = {p: p.stat().st_mtime_ns for p in state.root.rglob("*") if p.is_file()}
    make(state, monkeypatch).work()
    changed = {p for p in state.root.rglob("*") if p.is_file() and before.get(p) != p.stat().st_mtime_ns}
    assert changed == set()


def acknowledge(state, name):
    """What a daemon does that has the model live at once."""
    folder = state.endpoint(name)
    endpoint = folder.load()
    folder.save_daemon(ProcessId.of(os.getpid()))
    model = endpoint.spec.model
    live = VersionStatus(version=1, uri=model.uri, digest=model.digest, state="Live", since="2026-01-01T00:00:00Z")
    generation = endpoint.metadata.generation
    folder.save_status(EndpointStatus(observed_generation=generation, phase=EndpointPhase.SERVING, live=live))


def test_starting_a_run_again_brings_back_an_endpoint_that_was_removed(state, monkeypatch):
    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", acknowledge)
    assert make(state, monkeypatch, run=a_run()).work().phase is Phase.SERVING
    shutil.rmtree(state.endpoint("chat").root)
    assert make(state, monkeypatch, run=a_run()).work().phase is Phase.SERVING
    assert state.endpoint("chat").exists()


def take_the_key_away(state, standby=False):
    """The key that signed is revoked and gone, and the endpoint has taken the traffic from what it signed."""
    (old,) = json.loads(state.trusted_keys.read_text())
    state.trusted_keys.write_text(json.dumps([old | {"revoked": True}]))
    state.signing_key.unlink()
    folder = state.endpoint("chat")
    status = folder.status()
    retired = status.live.model_copy(update={"state": "Retired", "message": f"signed by {old['id']}, which is revoked"})
    other = status.live.model_copy(update={"version": 2, "digest": "sha256:" + "f" * 64}) if standby else None
    phase = EndpointPhase.SERVING if standby else EndpointPhase.PENDING
    folder.save_status(status.model_copy(update={"phase": phase, "live": other, "history": [retired]}))
    return old["id"]


@pytest.mark.parametrize("standby", [False, True])
def test_G_what_a_revoked_key_signed_is_signed_again_and_the_command_waits_until_it_is_live(
    state, monkeypatch, standby
):
    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", acknowledge)
    assert make(state, monkeypatch, run=a_run()).work().phase is Phase.SERVING
    old = take_the_key_away(state, standby)
    status = make(state, monkeypatch, run=a_run()).work()
    assert status.phase is Phase.SERVING
    assert Statements(state).standing(status.artifact.digest).newest.key.id != old


def test_G_an_endpoint_that_never_sees_what_was_signed_again_is_not_waited_for_without_end(state, monkeypatch):
    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", acknowledge)
    make(state, monkeypatch, run=a_run()).work()
    take_the_key_away(state)
    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", lambda *_: None)
    monkeypatch.setattr("slipway.local.runs.executor.SEEN_WITHIN", timedelta(seconds=0.5))
    status = make(state, monkeypatch, run=a_run()).work()
    assert status.phase is Phase.COMPLETED
    assert "which is revoked" in next(one.message for one in status.conditions if one.type == "Live")


def test_a_template_that_changed_reaches_the_endpoint_once(state, monkeypatch):
    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", acknowledge)
    assert make(state, monkeypatch, run=a_run()).work().phase is Phase.SERVING
    assert state.endpoint("chat").load().spec.port == 8000
    moved = a_run(serving={"endpoint": "chat", "template": {"port": 8001}})
    for _ in range(2):
        assert make(state, monkeypatch, run=moved).work().phase is Phase.SERVING
        endpoint = state.endpoint("chat").load()
        assert (endpoint.spec.port, endpoint.metadata.generation) == (8001, 2)


def test_G_a_daemon_that_cannot_start_does_not_take_the_verdict_with_it(state, monkeypatch):
    def refuse(*_):
        raise StateError("port 8000 is in use")

    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", refuse)
    executor = make(state, monkeypatch, run=a_run())
    with pytest.raises(StateError):
        executor.work()
    status = executor.folder.status()
    assert status.phase is Phase.ROLLING_OUT
    assert status.evaluation.verdict == "Pass"
    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", acknowledge)
    assert make(state, monkeypatch, run=a_run()).work().phase is Phase.SERVING


def test_A_a_verdict_is_taken_back_when_a_later_judgement_does_not_pass(state, monkeypatch):
    executor = make(state, monkeypatch)
    status = executor.work()
    digest = status.artifact.digest
    statements = Statements(state)
    assert statements.standing(digest).passed
    worse = status.evaluation.model_copy(update={"number": 2, "verdict": Verdict.FAIL})
    again = status.step("evaluate").model_copy(update={"attempt": 2})
    judged = status.model_copy(update={"evaluation": worse, "stages": [*status.stages[:-1], again]})
    assert executor._sign(judged) is None
    assert not statements.standing(digest).passed
    assert len(list(state.statements(digest).iterdir())) == 2, "each judgement is a statement of its own"


def test_a_verdict_whose_key_was_revoked_is_signed_again_by_the_same_command(state, monkeypatch):
    digest = make(state, monkeypatch).work().artifact.digest
    statements = Statements(state)
    (old,) = statements.trusted()
    state.signing_key.unlink()
    state.trusted_keys.write_text(trust.dump([old.model_copy(update={"revoked": True})]))
    assert statements.standing(digest).flaw is trust.Flaw.KEY_REVOKED
    make(state, monkeypatch).work()
    stands = statements.standing(digest)
    assert stands.passed
    assert stands.newest.key.id != old.id


def test_a_lost_key_stops_the_promotion_and_not_the_verdict(state, monkeypatch):
    monkeypatch.setattr("slipway.local.endpoints.daemon.ensure_daemon", acknowledge)
    Statements(state).signing_key()
    lost = state.signing_key.rename(state.root / "elsewhere")
    executor = make(state, monkeypatch, run=a_run())
    with pytest.raises(KeyLostError, match="put it back"):
        executor.work()
    status = executor.folder.status()
    assert status.evaluation.verdict is Verdict.PASS
    assert not state.endpoint("chat").exists()
    lost.rename(state.signing_key)
    assert make(state, monkeypatch, run=a_run()).work().phase is Phase.SERVING
    assert Statements(state).standing(status.artifact.digest).passed


def test_a_damaged_plan_is_named_with_the_way_out(state, monkeypatch):
    executor = make(state, monkeypatch)
    executor.folder.workspace().plan.write_text("{")
    with pytest.raises(StateError, match=r"plan\.json: damaged[\s\S]*slipway rm demo"):
        make(state, monkeypatch)


def test_a_damaged_run_does_not_hide_the_others(state, monkeypatch):
    make(state, monkeypatch)
    bad = state.run("bad")
    bad.root.mkdir(parents=True)
    (bad.root / "run.json").write_text("{")
    assert [folder.name for folder in state.runs()] == ["bad", "demo"]
    assert state.existing_run("demo").load().name == "demo"
