import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from tests.unit.trainer.plans_of_data import causal, plan, text, workspace, write_rows

from slipway_core.protocol import step_result, variables
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_fetching import errors as fetching
from slipway_host.files import write_atomically
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadData, BadModel, Interrupted, LostPeers, Superseded
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter
from slipway_trainer.step.run_step import OF_FETCHING, run_step
from slipway_trainer.step.signals import StopFlag


@pytest.fixture
def made(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.setenv(variables.RESULT_VARIABLE, str(tmp_path / "result.json"))
    return workspace(tmp_path / "run", plan(causal(write_rows(tmp_path / "a.jsonl", text("hello")))))


def frame(made: Workspace, body, *, step="prepare", attempt=1) -> tuple[int, StepResult]:
    code = run_step(step, body, plan_file=made.plan, folder=None, attempt=attempt)
    return code, step_result.decode((made.root.parent / "result.json").read_text())


def raising(error: BaseException):
    def body(_plan, _workspace):
        raise error

    return body


def done(_plan, _workspace) -> StepResult:
    return StepResult(step="prepare", attempt=1, metrics={"documents": 1.0})


def test_a_step_that_ends_leaves_its_result_and_exits_0(made):
    code, result = frame(made, done)
    assert (code, result.error, result.metrics) == (0, None, {"documents": 1.0})


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (BadData("a.jsonl:3: bad"), 2, "BadData"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "NoSpace"),
        (Interrupted("stopped"), 75, "Interrupted"),
        (KeyboardInterrupt(), 75, "Interrupted"),
        (Superseded("newer"), 75, "Superseded"),
        (LostPeers("rank 1"), 76, "LostPeers"),
        (MemoryError(), 1, "OutOfMemory"),
        (RuntimeError("boom"), 1, "Internal"),
        (OSError(errno.EIO, "Input/output error"), 1, "Internal"),
    ],
)
def test_a_step_that_fails_says_why_and_whether_trying_again_helps(made, error, code, kind):
    found, result = frame(made, raising(error))
    assert (found, result.error and result.error.kind) == (code, kind)


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (fetching.Misconfigured, 2, "BadConfig"),
        (fetching.NothingThere, 2, "BadModel"),
        (fetching.Refused, 2, "BadModel"),
        (fetching.NoRoom, 2, "NoSpace"),
        (fetching.Unavailable, 1, "FetchFailed"),
    ],
)
def test_what_cannot_be_fetched_is_told_as_any_other_failure(made, capsys, error, code, kind):
    found, result = frame(made, raising(error("model.from: s3://b/m: why")))
    assert (found, result.error and result.error.kind) == (code, kind)
    assert result.error
    assert result.error.message == "model.from: s3://b/m: why"
    assert capsys.readouterr().err == f"prepare: {kind}: model.from: s3://b/m: why\n"


@pytest.mark.parametrize(
    "error",
    [
        BadData("a.jsonl:3: bad"),
        fetching.Unavailable("s3://b/m: away"),
        KeyboardInterrupt(),
        OSError(errno.ENOSPC, "No space left on device", "/x"),
        RuntimeError("boom"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_step_had_found_is_in_its_result_however_it_fails(made, error):
    def body(_plan, _workspace):
        reporter = Reporter("prepare")
        with reporter.at_work():
            reporter.add_warning("the judge does not answer")
            raise error

    _, result = frame(made, body)
    assert result.error is not None
    assert result.warnings == ["the judge does not answer"]


def test_a_step_that_fails_and_had_found_nothing_warns_of_nothing(made):
    def body(_plan, _workspace):
        with Reporter("prepare").at_work():
            raise BadData("a.jsonl:3: bad")

    _, result = frame(made, body)
    assert (result.error and result.error.kind, result.warnings) == ("BadData", None)


def test_a_preparation_that_is_refused_tells_what_it_had_found_before(tmp_path, monkeypatch):
    """Also where nobody has asked for its progress by then: a row is refused within a second or two."""
    monkeypatch.setenv(variables.RESULT_VARIABLE, str(tmp_path / "result.json"))
    prompts = write_rows(tmp_path / "prompts.jsonl", {"prompt": "why?", "answer": "so"})
    judge = {"url": "http://127.0.0.1:9/v1", "model": "rules", "criteria": "Be short."}
    gates = [{"metric": "judge_score", "min": 0.5}]
    rows = write_rows(tmp_path / "a.jsonl", {"text": "hello"}, {"txt": "no such field"})
    asked = plan(causal(rows), prompts=[{"uri": prompts}], judge=judge, gates=gates)
    place = workspace(tmp_path / "run", asked)
    code, result = frame(place, lambda p, w: prepare.run(p, w, attempt=1, workers=1))
    assert (code, result.error and result.error.kind) == (2, "BadData")
    (warning,) = result.warnings or ()
    assert warning.startswith("evaluation.judge.url: http://127.0.0.1:9/v1 does not answer")


def test_D_a_signal_is_no_fault_of_what_is_being_loaded(made):
    """Whoever loads a file takes what a library raises for what is wrong with it."""

    def body(_plan, _workspace):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except Exception as error:
            raise BadModel(f"the tokenizer cannot be loaded: {error}") from None

    code, result = frame(made, body)
    assert (code, result.error and result.error.kind) == (75, "Interrupted")


def test_every_error_of_fetching_has_its_kind():
    assert set(OF_FETCHING) == set(fetching.FetchError.__subclasses__())


def test_an_unexpected_error_is_named_with_its_place_and_the_log_has_the_rest(made, capsys):
    _, result = frame(made, raising(RuntimeError("boom")))
    assert result.error
    assert result.error.message.startswith("RuntimeError: boom (test_run_step.py:")
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_the_user_comes_without_a_traceback(made, capsys):
    frame(made, raising(BadData("a.jsonl:3: bad")))
    assert capsys.readouterr().err == "prepare: BadData: a.jsonl:3: bad\n"


def test_a_very_long_message_still_fits_into_the_result(made):
    _, result = frame(made, raising(BadData("诗" * 5000)))
    assert result.error
    assert result.error.message.endswith("… (cut)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Invalid JSON"),
        ("{}", "run: Field required"),
        (None, "its digest is"),
    ],
)
def test_a_plan_that_is_damaged_is_never_run(made, content, message):
    text = made.plan.read_text()
    made.plan.write_text(content or text.replace('"retries": 3', '"retries": 4'))
    code, result = frame(made, done)
    assert code == 2
    assert result.error
    assert result.error.kind == "BadConfig"
    assert message in result.error.message


@pytest.mark.parametrize("found", ["another plan", "one that was edited", "no JSON"])
def test_E_another_plan_than_that_of_the_attempt_is_never_run_and_the_attempt_may_be_repeated(made, monkeypatch, found):
    text = made.plan.read_text()
    mine = json.loads(text)["digest"]
    monkeypatch.setenv(variables.PLAN_DIGEST_VARIABLE, mine)
    assert frame(made, done)[0] == 0
    others = {
        "another plan": plan(causal(f"file://{made.root}/b.jsonl")).to_json(),
        "one that was edited": text.replace('"retries": 3', '"retries": 4'),
        "no JSON": "{",
    }
    made.plan.write_text(others[found])
    code, result = frame(made, raising(AssertionError("it ran")))
    assert (code, result.error and result.error.kind) == (1, "PlanChanged")
    assert result.error
    assert result.error.message.startswith(f"{made.plan}: holds ")
    assert result.error.message.endswith(f"and this attempt was started for {mine}")


def test_a_stage_that_the_plan_does_not_have_is_refused_with_those_that_it_has(made):
    code, result = frame(made, done, step="sft")
    assert code == 2
    assert result.error
    assert "--stage sft: the plan has no such step; it has prepare, pretrain, export, evaluate" in result.error.message


def test_the_newest_attempt_fences_out_the_others(made):
    assert frame(made, done, attempt=3)[0] == 0
    code, result = frame(made, done, attempt=2)
    assert (code, result.error and result.error.kind) == (75, "Superseded")
    assert frame(made, done, attempt=3)[0] == 0
    assert made.fence("prepare").read_text() == "3\n"


def test_a_fence_is_seen_by_who_was_there_before(made):
    old = Fence(made.fence("prepare"), 1)
    old.raise_()
    old.check()
    Fence(made.fence("prepare"), 2).raise_()
    with pytest.raises(Superseded, match="attempt 2 has taken over from attempt 1"):
        old.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_step_at_once_and_leaves_a_result(made, number):
    def body(_plan, _workspace):
        os.kill(os.getpid(), number)
        raise AssertionError("the step went on")

    before = signal.getsignal(number)
    code, result = frame(made, body)
    assert (code, result.error and result.error.kind) == (75, "Interrupted")
    assert signal.getsignal(number) is before


def test_a_step_that_stops_at_a_place_of_its_own_looks_at_a_flag(made):
    def body(_plan, _workspace):
        flag = StopFlag().install()
        assert not flag.requested
        os.kill(os.getpid(), signal.SIGTERM)
        requested = flag.requested
        flag.restore()
        return StepResult(step="prepare", attempt=1, metrics={"requested": float(requested)})

    code, result = frame(made, body)
    assert (code, result.metrics) == (0, {"requested": 1.0})


def test_a_file_is_replaced_in_full_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "new"


def trainer(*arguments, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "slipway_trainer.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def test_the_command_prepares_where_it_is_told_and_reports_as_the_protocol_says(made, tmp_path):
    result = tmp_path / "result.json"
    ended = trainer("prepare", "--plan", made.plan, "--attempt", 4, SLIPWAY_RESULT=str(result))
    assert ended.returncode == 0, ended.stderr
    assert step_result.decode(result.read_text()).attempt == 4
    other = tmp_path / "elsewhere"
    ended = trainer("prepare", "--plan", made.plan, "--attempt", 1, SLIPWAY_WORKSPACE=str(other))
    assert ended.returncode == 0, ended.stderr
    assert json.loads((other / "prepare.json").read_text()) | {"seconds": 0} == json.loads(
        made.prepared.read_text()
    ) | {"seconds": 0}


def test_the_command_names_what_is_wrong_and_exits_2(made, tmp_path):
    write_rows(tmp_path / "a.jsonl", text("fine"), b"{oops\n")
    ended = trainer("prepare", "--plan", made.plan, "--attempt", 1)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"prepare: BadData: {tmp_path}/a.jsonl:2: not JSON")
    assert "Traceback" not in ended.stderr


def test_help_needs_no_model_library():
    code = (
        "import sys; from slipway_trainer.main import app\n"
        "try: app(['--help'])\n"
        "finally: print(sorted({'torch', 'transformers', 'deepspeed', 'numpy'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout.rstrip().endswith("[]"), ended.stdout + ended.stderr


def test_D_a_run_that_goes_on_in_the_folder_of_an_earlier_one_fences_all_of_its_attempts_out(made):
    """Its attempts are counted from 1001 on."""
    earlier = Fence(made.fence("prepare"), 7)
    earlier.raise_()
    assert frame(made, done, attempt=1001)[0] == 0
    with pytest.raises(Superseded, match="attempt 1001 has taken over from attempt 7"):
        earlier.check()
    code, result = frame(made, done, attempt=8)
    assert (code, result.error and result.error.kind) == (75, "Superseded")
