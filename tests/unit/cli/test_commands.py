"""The commands as a person types them, on real state folders."""

import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console
from tests.unit.cli.chat_server import ChatServer, running
from tests.unit.cli.cluster.objects import condition
from tests.unit.cli.evidence import DIGEST, YAML, entered, rejected, rows
from tests.unit.cli.judged_run import gate, judged, served
from typer.testing import CliRunner

from slipway.commands import status
from slipway.local.processes import ProcessId
from slipway.local.state import State
from slipway.main import app
from slipway_core.resources.metadata import Metadata
from slipway_core.resources.model_endpoint import ModelEndpoint, ModelEndpointSpec, ServedModel
from slipway_core.resources.status import (
    Condition,
    EndpointStatus,
    HeldOutData,
    HeldOutStatus,
    Phase,
    Progress,
    RunStatus,
    StepState,
    StepStatus,
)
from slipway_core.resources.training_run import Serving


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SLIPWAY_API_KEY", raising=False)
    # A cluster that this machine happens to know is none of the tests' business.
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))


def slipway(*arguments, code=0, input=None):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result


def imported_by(*arguments):
    """Returns the modules that a command has imported when it ends."""
    script = "import sys; from slipway.main import app; app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_help_imports_nothing_that_takes_long():
    assert not imported_by("--help") & {"pydantic", "rich", "torch", "httpx", "matplotlib", "ruamel.yaml"}


def test_validate_imports_no_more_than_it_needs(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML.format(name="a"))
    assert not imported_by("validate", "run.yaml") & {"torch", "httpx", "matplotlib", "rich.table"}


def test_version():
    assert slipway("--version").stdout.startswith("slipway 0.")


def test_validate_says_what_is_valid_and_which_files_are_not_here(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML.format(name="a"))
    (tmp_path / "corpus.jsonl").write_text("")
    result = slipway("validate", "run.yaml")
    assert result.stdout == "run.yaml: TrainingRun a is valid\n"
    assert "spec.stages[1].data.train[0].uri: file://chat.jsonl: there is no" in result.stderr
    assert "corpus" not in result.stderr
    assert "its data and its model were not read; `slipway preview run.yaml` shows what they hold" in result.stderr


@pytest.mark.slow
def test_preview_shows_what_would_be_learned_and_ends_with_2_where_something_would_be_refused(tmp_path):
    document = """apiVersion: slipway.dev/v1alpha1
kind: TrainingRun
metadata: {name: a}
spec:
  model: {scratch: {hiddenSize: 64, heads: 2, tokenizer: {train: {vocabSize: 300}}}}
  stages:
  - name: sft
    objective: Chat
    data: {train: [{uri: file://chat.jsonl}]}
"""
    (tmp_path / "run.yaml").write_text(document)
    assert "file://chat.jsonl: there is no" in slipway("preview", "run.yaml", code=2).stderr
    (tmp_path / "chat.jsonl").write_text('{"question": "who?", "answer": "me"}\n')
    page = tmp_path / "new" / "page.html"
    assert slipway("preview", "run.yaml", "-o", page).stdout == f"{page}: refused: 0, warnings: 0\n"
    assert '<span class="l">e</span><span class="s l">&lt;|im_end|&gt;' in page.read_text()
    (tmp_path / "chat.jsonl").write_text('{"question": "who?", "answer": "me"}\n{"question": "what?"}\n')
    slipway("preview", "run.yaml", "-o", "all.JSON", code=2)
    assert "chat.jsonl:2: no 'answer'" in json.loads((tmp_path / "all.JSON").read_text())["problems"][0]
    assert "ends in .txt; use one of .html, .json" in slipway("preview", "run.yaml", "-o", "a.txt", code=2).stderr
    slipway("preview", "run.yaml", "--device", "H1000", code=2)


ENDPOINT = """apiVersion: slipway.dev/v1alpha1
kind: ModelEndpoint
metadata: {{name: {name}}}
spec:
  promotion:
    requiredGates:
    - {{metric: bits_per_byte, max: 4, data: "{data}"}}
"""
JUDGED = """apiVersion: slipway.dev/v1alpha1
kind: TrainingRun
metadata: {name: a}
spec:
  model: {scratch: {hiddenSize: 64, heads: 2, tokenizer: {train: {vocabSize: 300}}}}
  stages:
  - {name: sft, objective: CausalLM, data: {train: [{uri: file://texts.jsonl}]}}
  evaluation:
    data: [{uri: file://held.jsonl}]
    gates: [{metric: bits_per_byte, max: 4}]
  serving: {endpoint: chat}
"""


def test_A_preview_holds_a_run_against_what_an_endpoint_requires(tmp_path):
    (tmp_path / "run.yaml").write_text(JUDGED)
    (tmp_path / "texts.jsonl").write_text('{"text": "the keel is laid first"}\n')
    (tmp_path / "held.jsonl").write_text('{"text": "and the mast is stepped last of all"}\n')
    other = tmp_path / "endpoint.yaml"
    other.write_text(ENDPOINT.format(name="chat", data="sha256:" + "1" * 64))
    slipway("preview", "run.yaml", "--endpoint", other, "-o", "seen.json", code=2)
    seen = json.loads((tmp_path / "seen.json").read_text())
    (digest,) = [one["digest"] for one in seen["heldOut"]["gateData"]]
    assert seen["problems"] == []
    assert seen["endpoint"]["gates"][0]["says"] == f"it is measured on {digest}, and must be on sha256:{'1' * 64}"
    other.write_text(ENDPOINT.format(name="chat", data=digest))
    shown = slipway("preview", "run.yaml", "--endpoint", other).stdout
    assert f"on {digest}: bits_per_byte <= 4" in shown.replace("\n  ", " ")
    assert "evaluation.gates[0] answers it" in shown.replace("\n  ", " ")


def test_preview_refuses_an_endpoint_that_the_run_does_not_serve_at(tmp_path):
    (tmp_path / "run.yaml").write_text(JUDGED)
    (tmp_path / "other.yaml").write_text(ENDPOINT.format(name="other", data="sha256:" + "1" * 64))
    said = slipway("preview", "run.yaml", "--endpoint", "other.yaml", code=2).stderr
    assert "other.yaml: is the endpoint other, and the run serves at chat (spec.serving.endpoint)" in said
    said = slipway("preview", "run.yaml", "--endpoint", "run.yaml", code=2).stderr
    assert "--endpoint run.yaml: is a TrainingRun; name the file of a ModelEndpoint" in said
    assert "standard input is the run already" in slipway("preview", "-", "--endpoint", "-", code=2).stderr


def test_validate_says_what_it_cannot_see_of_a_dataset_of_the_hub(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML.format(name="a").replace("file://chat.jsonl", "hf://datasets/org/chats"))
    said = slipway("validate", "run.yaml").stderr
    assert "spec.stages[1].data.train[0].uri: hf://datasets/org/chats: its configs, splits and rows are looked" in said


def test_validate_names_the_mistakes_of_all_files_and_ends_with_2(tmp_path):
    (tmp_path / "a.yaml").write_text(YAML.format(name="a").replace("objective", "objectve"))
    (tmp_path / "b.yaml").write_bytes(b"kind: \xff\n")
    result = slipway("validate", "a.yaml", "b.yaml", "c.yaml", code=2)
    assert "a.yaml:11: spec.stages[1].objectve: unknown field; did you mean objective?" in result.stderr
    assert "b.yaml:1: is not UTF-8" in result.stderr
    assert "c.yaml: there is no such file; . has a.yaml, b.yaml" in result.stderr


def test_plan_fills_in_defaults_and_takes_overrides(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML.format(name="a"))
    plan = json.loads(slipway("plan", "run.yaml", "--set", "stages.sft.epochs=3", "-o", "json").stdout)
    assert [stage["epochs"] for stage in plan["stages"]] == [1, 3]
    assert plan["stages"][0]["data"]["train"][0]["uri"] == f"file://{tmp_path}/corpus.jsonl"
    assert "batch:\n    tokens: 16384" in slipway("plan", "run.yaml").stdout
    assert slipway("plan", "-", "-o", "json", input=YAML.format(name="b")).stdout
    assert "--set nothing" in slipway("plan", "run.yaml", "--set", "nothing", code=2).stderr


def test_plan_shows_the_memory_of_its_stages_without_their_data_and_ends_with_2_where_one_cannot_fit(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML.format(name="a"))
    shown = slipway("plan", "run.yaml", "--memory", "--device", "H100", "--processes", "2").stdout
    assert "a · H100" in shown
    assert shown.count("of memory a process, of 79.1 GiB (BF16, ZeRO stage 1, 2 processes, micro batch") == 2
    assert "checkpoint's copy" in shown
    assert "This fits, as far as is known." in shown
    large = ("--set", "model.scratch.hiddenSize=8192", "--set", "model.scratch.layers=80")
    refused = slipway("plan", "run.yaml", "--memory", "--device", "H100", "-o", "json", *large, code=2)
    (first, _) = json.loads(refused.stdout)["stages"]
    assert "would make it fit" in first["memory"]["refused"]


def test_plan_has_a_device_for_the_memory_alone(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML.format(name="a"))
    assert "are of --memory" in slipway("plan", "run.yaml", "--device", "H100", code=2).stderr


def test_plan_takes_a_training_run_alone(tmp_path):
    endpoint = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "a"}, "spec": {}}
    (tmp_path / "e.yaml").write_text(json.dumps(endpoint))
    assert "only a TrainingRun can be run" in slipway("plan", "e.yaml", code=2).stderr


def endpoint_serving(workdir, uri, name="chat"):
    """Enters an endpoint that names a model; no process serves it."""
    folder = State.below(workdir).endpoint(name)
    model = ServedModel(uri=uri, digest=DIGEST, run="tang")
    folder.save(ModelEndpoint(metadata=Metadata(name=name), spec=ModelEndpointSpec(model=model)))
    return folder


def test_status_of_an_empty_folder_says_how_to_start():
    assert "slipway run FILE" in slipway("status").stdout
    assert json.loads(slipway("status", "-o", "json").stdout) == {"runs": [], "endpoints": []}
    assert "there is no 'x'" in slipway("status", "x", code=2).stderr


def test_status_lists_runs_and_endpoints(tmp_path):
    entered(tmp_path, status=rejected())
    entered(tmp_path, "other")
    endpoint_serving(tmp_path, "file:///m")
    lines = slipway("status").stdout.splitlines()
    tang, other = (next(line for line in lines if line.startswith(name)) for name in ("tang", "other"))
    assert "Rejected" in tang
    assert "2.500" in tang
    assert "Fail" in tang
    assert "Pending (not at work)" in other
    assert any(line.startswith("chat") and "Stopped" in line for line in lines)


def test_status_of_a_run_is_the_resource_with_its_status(tmp_path):
    entered(tmp_path, status=rejected())
    document = json.loads(slipway("status", "tang", "-o", "json").stdout)
    assert document["kind"] == "TrainingRun"
    assert document["status"] == rejected().to_document()
    assert "phase: Rejected" in slipway("status", "tang", "-o", "yaml").stdout
    page = slipway("status", "tang").stdout
    assert "run tang: Rejected" in page
    assert "bits_per_byte" in page


def test_status_says_what_a_step_warned_of(tmp_path):
    warned = Progress(warnings=["evaluation.gates[0] (bleu) can never pass"], warning="metrics.jsonl lacks 3 rows")
    status = rejected()
    first = status.stages[0].model_copy(update={"state": StepState.SUCCEEDED, "progress": warned})
    entered(tmp_path, status=status.model_copy(update={"stages": [first, *status.stages[1:]]}))
    said = slipway("status", "tang").stdout
    assert f"warning: {first.name}: evaluation.gates[0] (bleu) can never pass\n" in said
    assert f"warning: {first.name}: metrics.jsonl lacks 3 rows\n" in said


def test_a_condition_is_shown_as_it_stands_and_does_not_steer_the_terminal(tmp_path):
    told = Condition(type="Progressing", status="False", reason="Rejected", last_transition_time="2026-01-01T00:00:00Z",
                     message="\x1b[2Jgone [bold]a.jsonl[/bold]")  # fmt: skip
    entered(tmp_path, status=rejected().model_copy(update={"conditions": [told]}))
    assert "␛[2Jgone [bold]a.jsonl[/bold]" in slipway("status", "tang").stdout


def test_status_cuts_no_digest_off_in_a_narrow_terminal():
    told = condition("AwaitingApproval", "False", "AwaitingApproval", f"`slipway approve tang --digest {DIGEST}`")
    screen = Console(file=io.StringIO(), width=70)
    screen.print(status._conditions_table([told]))
    assert DIGEST in "".join(screen.file.getvalue().split())


def test_status_says_how_often_held_out_data_was_judged_upon(tmp_path):
    folder = judged(tmp_path, run=served_at("chat"))
    one = HeldOutData(sketch="0123456789abcdef", judgements=21, since="2026-01-01T00:00:00Z")
    held = HeldOutStatus(judgements=21, data=[one])
    folder.save_status(folder.status().model_copy(update={"held_out_sketch": one.sketch}))
    endpoint = served(tmp_path, folder)
    endpoint.save_status(endpoint.status().model_copy(update={"held_out": held}))
    for name in ("tang", "endpoint/chat"):
        assert "judged upon 21 times for this endpoint; it wears out at 20" in slipway("status", name).stdout
    assert "From 20 on a pass may be the luck of many tries" in slipway("report", "tang").stdout


def test_status_and_report_show_the_data_of_a_gate_to_copy_it(tmp_path):
    poems, sums = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    own = [gate(data=poems), gate(name="perplexity", data=poems), gate(name="chrf", source="sums", data=sums), gate()]
    judged(tmp_path, gates=own)
    for command in ("status", "report"):
        said = slipway(command, "tang").stdout
        assert f"judged on {poems}  bits_per_byte, perplexity\n" in said
        assert f"judged on {sums}  chrf of source sums\n" in said
    slipway("report", "tang", "-o", "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count(f"judged on {poems}") == 2
    assert page.count(f"judged on {sums}") == 1


def served_at(endpoint):
    def change(run):
        return run.model_copy(update={"spec": run.spec.model_copy(update={"serving": Serving(endpoint=endpoint)})})

    return change


def test_an_endpoint_is_found_by_its_name_also_where_a_run_has_it(tmp_path):
    entered(tmp_path, "chat")
    endpoint_serving(tmp_path, "file:///m")
    assert json.loads(slipway("status", "chat", "-o", "json").stdout)["kind"] == "TrainingRun"
    assert json.loads(slipway("status", "endpoint/chat", "-o", "json").stdout)["kind"] == "ModelEndpoint"


def test_output_to_a_pipe_has_no_colours(tmp_path):
    entered(tmp_path, status=rejected())
    assert "\x1b" not in slipway("status", "tang").stdout


def test_output_to_a_pipe_is_neither_wrapped_nor_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    why = "the claim data does not exist in this namespace; create it, and it goes on by itself " * 5
    step = StepStatus(name="pretrain", state=StepState.WAITING, attempt=2, message=f"lost {why}end")
    name = "a-name-as-long-as-names-become-where-programs-make-them"
    conditions = [condition("ClaimMissing", "True", "NotFound", f"{why}end")]
    entered(tmp_path, name, status=RunStatus(phase=Phase.TRAINING, stages=[step], conditions=conditions))
    page = slipway("status", name).stdout
    assert f"NotFound  {why}end" in page
    assert f"lost {why}end" in page
    assert "…" not in page + slipway("status").stdout
    assert max(map(len, page.splitlines())) < 600


def test_a_damaged_state_is_named_and_not_traced(tmp_path):
    folder = entered(tmp_path)
    (folder.root / "status.json").write_text("{")
    assert "status.json: damaged" in slipway("status", "tang", code=2).stderr


@pytest.mark.parametrize(
    ("phase", "code"),
    [(Phase.COMPLETED, 0), (Phase.SERVING, 0), (Phase.REJECTED, 3), (Phase.HELD, 3), (Phase.FAILED, 1)],
)
def test_watch_ends_with_the_exit_code_of_the_run(tmp_path, phase, code):
    entered(tmp_path, status=RunStatus(phase=phase))
    assert f"run tang is {phase}" in slipway("watch", code=code).stdout


def test_watch_does_not_wait_for_a_run_that_nobody_works_on(tmp_path):
    entered(tmp_path, status=RunStatus(phase=Phase.TRAINING))
    assert "nobody is at work on it" in slipway("watch", "tang", code=1).stderr


def test_logs_are_those_of_the_newest_attempts_in_the_order_of_the_steps(tmp_path):
    workspace = entered(tmp_path).workspace()
    for step, attempt, text in (("pretrain", 1, "old\n"), ("pretrain", 2, "new\n"), ("prepare", 1, "read\n")):
        workspace.log(step, attempt).parent.mkdir(exist_ok=True)
        workspace.log(step, attempt).write_text(text)
    expected = "==> prepare, attempt 1 <==\nread\n==> pretrain, attempt 2 <==\nnew\n"
    assert slipway("logs", "tang").stdout == expected
    assert slipway("logs", "tang", "-f").stdout == expected
    assert slipway("logs", "--stage", "pretrain", "--attempt", 1).stdout == "old\n"
    assert "it has prepare, pretrain, sft, export, evaluate and serve" in slipway("logs", "--stage", "x", code=2).stderr
    assert "has no log yet" in slipway("logs", "--stage", "sft", code=2).stderr
    assert "run tang has no serving" in slipway("logs", "--stage", "serve", code=2).stderr


def test_logs_of_an_endpoint_are_those_of_its_versions_in_order(tmp_path):
    folder = endpoint_serving(tmp_path, "file:///m")
    for version in (10, 9):
        folder.version(version).mkdir(parents=True)
        (folder.version(version) / "server.log").write_text(f"served {version}\n")
    folder.log.write_text("relay\n")
    expected = "==> endpoint <==\nrelay\n==> version 9 <==\nserved 9\n==> version 10 <==\nserved 10\n"
    assert slipway("logs", "chat").stdout == expected


def test_plot_writes_a_picture(tmp_path):
    entered(tmp_path, curves={"pretrain": rows([3.0, 2.0, 1.0]), "sft": rows([1.0])})
    result = slipway("plot", "tang", "-o", "out/loss.png")
    assert result.stdout == "out/loss.png: pretrain (3 steps), sft (1 steps)\n"
    assert (tmp_path / "out" / "loss.png").stat().st_size > 10_000
    assert "use one of .png, .svg, .pdf" in slipway("plot", "-o", "loss.doc", code=2).stderr


def test_report_says_the_verdict_at_the_terminal_and_writes_a_page_in_either_language(tmp_path):
    judged(tmp_path)
    assert "Passed: the one gate that applies holds." in slipway("report").stdout
    result = slipway("report", "tang", "-o", "out/report.html", "--lang", "zh")
    assert result.stdout == "out/report.html: 通过: 适用的一个门槛满足。\n"
    assert '<html lang="zh-Hans">' in (tmp_path / "out" / "report.html").read_text()
    assert "ends in .pdf; a report is a page: .html" in slipway("report", "-o", "a.pdf", code=2).stderr
    assert "there is no run 'nobody'" in slipway("report", "nobody", "--local", code=2).stderr


def test_compare_takes_two_runs_or_a_run_and_what_is_live(tmp_path):
    folder = judged(tmp_path, "one")
    judged(tmp_path, "two", values={"bits_per_byte": 2.5})
    served(tmp_path, folder)
    assert "-0.4" in slipway("compare", "one", "two").stdout
    assert slipway("compare", "two", "chat").stdout == slipway("compare", "two", "one").stdout
    assert slipway("compare", "two", "one", "-o", "c.html").stdout == "c.html: two and one\n"
    assert "run one is what is live at endpoint chat" in slipway("compare", "one", "chat", code=2).stderr
    assert "run one has no endpoint: name a run or an endpoint" in slipway("compare", "one", code=2).stderr
    assert "there is no 'three'" in slipway("compare", "one", "three", code=2).stderr
    assert "a comparison is a page: .html" in slipway("compare", "one", "two", "-o", "c.png", code=2).stderr
    State.below(tmp_path).endpoint("chat").save_status(EndpointStatus())
    assert "has no live version to compare with" in slipway("compare", "two", "chat", code=2).stderr


def test_lineage_is_told_as_text_as_json_and_as_a_chart(tmp_path):
    folder = judged(tmp_path)
    served(tmp_path, folder)
    digest = folder.status().artifact.digest
    said = slipway("lineage", "chat").stdout
    assert said.startswith("endpoint chat\n")
    assert digest in said
    assert slipway("lineage").stdout == slipway("lineage", "run://tang").stdout == slipway("lineage", "tang").stdout
    told = json.loads(slipway("lineage", "tang", "-o", "json").stdout)
    assert {node["kind"] for node in told["nodes"]} == {
        "endpoint", "version", "artifact", "judgement", "plan", "base", "data", "file",
    }  # fmt: skip
    assert {edge["source"] for edge in told["edges"]} <= {node["id"] for node in told["nodes"]}
    assert slipway("lineage", "chat", "-o", "mermaid").stdout.startswith("flowchart TD\n")
    assert "does not start with one of" in slipway("lineage", "http://a/b", code=2).stderr


def test_plot_of_a_run_without_steps_says_so(tmp_path):
    entered(tmp_path)
    assert "has logged no training step yet" in slipway("plot", code=2).stderr


def test_doctor_shows_figures_and_changes_and_ends_with_1_when_there_is_a_problem(tmp_path):
    entered(tmp_path, status=rejected(), curves={"pretrain": rows([3.0] * 40)})
    page = slipway("doctor", "tang", code=1).stdout
    assert "✗ pretrain: the loss does not fall" in page
    assert "shown by: 3.000 at the start" in page
    findings = json.loads(slipway("doctor", "tang", "-o", "json", code=1).stdout)
    assert {finding["subject"] for finding in findings} >= {"pretrain", "gate"}


def test_what_doctor_shows_does_not_steer_the_terminal(tmp_path):
    steers = "\x1b[2J\x1b]0;title\x07gone"
    status = rejected()
    one, two, *rest = status.stages
    warned = one.model_copy(update={"progress": Progress(warnings=[steers])})
    failed = two.model_copy(update={"state": StepState.FAILED, "message": f"BadData: {steers}.jsonl:3: bad"})
    entered(tmp_path, status=status.model_copy(update={"stages": [warned, failed, *rest]}))
    page = slipway("doctor", "tang", code=1).stdout
    assert page.count("␛[2J␛]0;title␇gone") == 2
    assert "\x1b" not in page


def test_doctor_of_a_run_that_nobody_works_on_says_so_and_ends_with_0(tmp_path):
    entered(tmp_path)
    assert "nobody is at work on it" in slipway("doctor", "tang").stdout


def test_doctor_of_an_endpoint_says_which_commands_look_at_it(tmp_path):
    endpoint_serving(tmp_path, "file:///m")
    error = slipway("doctor", "chat", code=2).stderr
    assert "chat is an endpoint, and doctor looks at runs; `slipway status endpoint/chat`" in error


def test_doctor_looks_at_the_machine():
    findings = json.loads(CliRunner().invoke(app, ["doctor", "-o", "json"]).stdout)
    assert {"Python", "memory", "GPU", "compiler", "libraries"} <= {finding["subject"] for finding in findings}


def test_a_removed_run_is_gone(tmp_path):
    folder = entered(tmp_path)
    assert slipway("rm", "tang").stdout == "run tang is removed\n"
    assert not folder.root.exists()
    assert "there is no run 'tang'" in slipway("rm", "tang", code=2).stderr


def test_on_this_machine_a_run_is_removed_at_once_anyway(tmp_path):
    folder = entered(tmp_path)
    assert slipway("rm", "--now", "tang").stdout == "run tang is removed\n"
    assert not folder.root.exists()
    assert "keeps nothing of a run that is removed" in slipway("ls", "--orphaned", "--local", code=2).stderr


def test_ls_lists_what_status_does(tmp_path):
    entered(tmp_path)
    assert "tang" in slipway("ls").stdout
    assert [run["metadata"]["name"] for run in json.loads(slipway("ls", "-o", "json").stdout)["runs"]] == ["tang"]


def test_a_run_at_work_is_not_removed(tmp_path):
    folder = entered(tmp_path)
    with folder.lock():
        assert f"process {os.getpid()}" in slipway("rm", "tang", code=1).stderr
    assert folder.exists()


def test_b_a_model_that_an_endpoint_names_outlives_its_run_and_goes_with_the_endpoint(tmp_path):
    folder = entered(tmp_path, curves={"pretrain": rows([1.0])})
    artifact = folder.workspace().artifact
    artifact.mkdir()
    (artifact / "model.safetensors").write_text("weights")
    endpoint_serving(tmp_path, f"file://{artifact}")
    assert "its model stays, since endpoint chat names it" in slipway("rm", "tang").stdout
    assert (artifact / "model.safetensors").read_text() == "weights"
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]
    assert "there is no run" in slipway("rm", "tang", code=2).stderr

    assert "the model of run tang is removed with it" in slipway("rm", "endpoint/chat").stdout
    assert not folder.root.exists()


def test_chat_asks_once_and_prints_the_answer_alone():
    with running(ChatServer(pieces=("床前", "看月光"))) as server:
        result = slipway("chat", server.url, "-m", "背诵", "--temperature", 0, "--system", "be brief")
    assert result.stdout == "床前看月光\n"
    assert server.requests[0].history[0].content == "be brief"


def test_chat_reads_lines_from_a_pipe_until_one_leaves():
    with running(ChatServer(pieces=("ok",))) as server:
        result = slipway("chat", server.url, input="one\ntwo\n退出\nthree\n")
    assert result.stdout == "ok\nok\n"
    assert [request.message for request in server.requests] == ["one", "two"]


def test_chat_sends_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("SLIPWAY_API_KEY", "secret")
    with running(ChatServer()) as server:
        slipway("chat", server.url, "-m", "hi")
    assert {name.lower(): value for name, value in server.headers[0].items()}["authorization"] == "Bearer secret"


def test_chat_with_nobody_says_what_to_do(tmp_path):
    assert "nothing answers at http://127.0.0.1:9/" in slipway("chat", "127.0.0.1:9", "-m", "hi", code=1).stderr
    assert "nothing serves here" in slipway("chat", code=2).stderr
    endpoint_serving(tmp_path, "file:///m")
    assert "chat does not serve" in slipway("chat", "chat", code=2).stderr
    assert "--message: is empty" in slipway("chat", "127.0.0.1:9", "-m", " ", code=2).stderr


def test_stop_with_nothing_at_work_says_so(tmp_path):
    assert slipway("stop").stdout == "nothing serves\n"
    entered(tmp_path)
    assert slipway("stop", "tang").stdout == "run tang is not at work\n"
    assert "there is no endpoint and no run 'x'" in slipway("stop", "x", code=2).stderr


def test_stop_takes_an_endpoint_as_all_other_commands_call_it(tmp_path):
    entered(tmp_path)
    assert "endpoints: none; runs: tang" in slipway("stop", "endpoint/tang", code=2).stderr
    endpoint_serving(tmp_path, "file:///m")
    assert slipway("stop", "endpoint/chat").stdout == "endpoint chat does not run\n"


def test_an_unknown_command_or_option_ends_with_2():
    assert slipway("validat", code=2).stderr
    assert slipway("status", "--formt", code=2).stderr


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    workspace = entered(tmp_path).workspace()
    workspace.log("prepare", 1).parent.mkdir()
    workspace.log("prepare", 1).write_text("line\n" * 200_000)
    command = f"{sys.executable} -m slipway logs tang | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout == "line\n"
    assert result.stderr == ""


def test_status_of_a_step_that_waits_shows_why(tmp_path):
    step = StepStatus(name="pretrain", state=StepState.WAITING, attempt=2, message="lost its worker")
    entered(tmp_path, status=RunStatus(phase=Phase.TRAINING, stages=[step]))
    assert "lost its worker" in slipway("status", "tang").stdout


def test_run_refuses_files_that_are_not_there_before_anything_starts(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML.format(name="a"))
    error = slipway("run", "run.yaml", code=2).stderr
    assert "run.yaml: spec.stages[0].data.train[0].uri: file://corpus.jsonl: there is no" in error
    assert "there is no such file" in slipway("run", "none.yaml", code=2).stderr
    assert not (tmp_path / ".slipway").exists()


def test_a_mistake_of_ours_is_one_paragraph_unless_it_is_to_be_traced(tmp_path, monkeypatch):
    entered(tmp_path)
    monkeypatch.setattr("slipway.local.state.State.runs", lambda _: 1 / 0)
    assert "ZeroDivisionError" in slipway("status", code=1).stderr
    monkeypatch.setenv("SLIPWAY_DEBUG", "1")
    assert isinstance(CliRunner().invoke(app, ["status"]).exception, ZeroDivisionError)


def test_an_endpoint_that_serves_is_not_removed_and_the_command_that_stops_it_is_named(tmp_path):
    folder = endpoint_serving(tmp_path, "file:///m")
    folder.save_daemon(ProcessId.of(os.getpid()))
    with folder.lock():
        assert "stop it first: slipway stop chat" in slipway("rm", "endpoint/chat", code=2).stderr
    assert folder.exists()


def test_a_run_that_asks_for_what_is_not_on_this_machine_is_refused_before_it_is_entered(tmp_path):
    text = YAML.format(name="a").replace("file://corpus.jsonl", "pvc://claim/corpus.jsonl")
    (tmp_path / "run.yaml").write_text(text)
    (tmp_path / "chat.jsonl").write_text("")
    error = slipway("run", "run.yaml", "--no-serve", code=2).stderr
    assert "data.train[0].uri: pvc://claim/corpus.jsonl: claims are there in a cluster alone" in error
    assert not State.below(tmp_path).run("a").exists()
