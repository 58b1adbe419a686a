"""One small run as a user sees it: data in, a judged model out, behind a real vLLM; on a machine without a compiler."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import httpx
import openai
import pytest
from tests.e2e.machine import Machine, until

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory, no_compiler_path):
    folder = tmp_path_factory.mktemp("local")
    caches = {
        name: str(folder / "caches" / name)
        for name in ("TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT")
    }
    env = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX")}
    with Machine.at(folder, {**env, **caches, "PATH": no_compiler_path}).cleaned_up() as machine:
        yield machine


@pytest.fixture(scope="module")
def serving(machine):
    """The small run, from its file to a server that answers."""
    machine.output = machine.slipway("run", "small.yaml")
    return machine


def test_one_command_goes_from_data_to_a_live_endpoint(serving):
    status = serving.status()
    assert status["phase"] == "Serving"
    assert [s["state"] for s in status["stages"]] == ["Succeeded"] * 5
    assert status["evaluation"]["verdict"] == "Pass"
    assert f"{serving.url}/" in serving.output


def test_the_stages_learn(serving):
    for name in ("pretrain", "sft"):
        metrics = next((serving.folder / ".slipway").glob(f"runs/small/small-*/stages/{name}/metrics.jsonl"))
        losses = [row["loss"] for row in map(json.loads, metrics.read_text().splitlines()) if row.get("loss")]
        assert losses[-1] < losses[0]


def test_a_message_alone_is_answered(serving):
    answer = serving.ask("背诵李白的《夜思》")
    assert set(answer) == {"response", "model", "finish_reason", "usage"}
    assert answer["usage"]["completion_tokens"] >= 1


def test_openai_clients_stream(serving):
    client = openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none")
    messages = [{"role": "user", "content": "你好"}]
    chunks = list(client.chat.completions.create(model="chat", messages=messages, stream=True, max_tokens=8))
    assert len(chunks) > 1
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_metrics_are_there_under_our_name_and_vllms(serving):
    text = httpx.get(f"{serving.url}/metrics").text
    assert "slipway_" in text
    assert "vllm:" in text


def test_chat_answers_from_the_command_line(serving):
    assert serving.slipway("chat", "chat", "-m", "你好").strip()


def test_the_same_command_says_that_it_is_done(serving):
    attempts = sorted((serving.folder / ".slipway/runs/small/attempts").iterdir())
    serving.slipway("run", "small.yaml", timeout=30)
    assert sorted((serving.folder / ".slipway/runs/small/attempts").iterdir()) == attempts


def test_A_a_rejected_model_leaves_the_live_one_answering(serving):
    before = serving.ask("你好", temperature=0)
    output = serving.slipway(
        "run", "small.yaml", "--set", "metadata.name=worse", "--set", "stages.pretrain.steps=1",
        "--set", "stages.sft.steps=1", "--set", "evaluation.gates[0].max=0.1", code=3,
    )  # fmt: skip
    assert "Rejected" in output
    assert "still serves version 1" in output
    assert serving.ask("你好", temperature=0)["response"] == before["response"]


def test_B_a_lora_of_that_model_takes_over_and_no_request_fails(serving):
    """The example, with the model of the small run as its base."""
    shutil.copy(EXAMPLES / "lora-from-folder.yaml", serving.folder)
    few = ({"text": f"prose that nobody learns, line {number}"} for number in range(10))
    (serving.folder / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in few))
    rollout = serving.start(*lora(serving))
    asked = 0
    with httpx.Client(base_url=serving.url, timeout=60) as client:
        while rollout.poll() is None:
            response = client.post("/chat", json={"message": "你好", "max_length": 4})
            assert response.status_code == 200, response.text
            asked += 1
            time.sleep(0.5)
    assert rollout.returncode == 0, rollout.stdout.read()
    assert asked > 10
    endpoint = json.loads((serving.folder / ".slipway/endpoints/chat/status.json").read_text())
    assert (endpoint["live"]["version"], endpoint["live"]["run"]) == (2, "lora-from-folder")
    regression = serving.status("lora-from-folder")["evaluation"]["metrics"][1]
    assert regression["verdict"] == "Pass"
    assert "the live version has" in regression["reason"]
    forgotten = serving.status("lora-from-folder")["evaluation"]["metrics"][3]
    assert (forgotten["verdict"], "the base model has" in forgotten["reason"]) == ("Pass", True)
    general = serving.status("lora-from-folder")["evaluation"]["metrics"][4]
    assert (general["source"], general["verdict"], general["clusters"]) == ("general", "Pass", 10)


def test_B_killing_what_is_live_brings_it_back(serving):
    """The daemon starts a server again that died, and the last good version with it."""
    pid = until(lambda: server_pid(serving), 90, "one server alone")
    os.kill(pid, signal.SIGKILL)
    until(lambda: answers(serving), 180, "the endpoint answering again")
    assert server_pid(serving) != pid


def test_plot_doctor_logs_and_watch_have_something_to_say(serving, tmp_path):
    serving.slipway("plot", "small", "-o", str(tmp_path / "loss.png"))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert serving.slipway("logs", "small", "--stage", "pretrain").strip()
    assert "perplexity" in serving.slipway("doctor", "small", code=1), "a model this small has its problems"
    serving.slipway("watch", "small", timeout=30)


def test_stop_stops_and_the_same_command_brings_the_model_back(serving):
    serving.slipway("stop")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{serving.url}/health")
    serving.slipway(*lora(serving))
    assert answers(serving)


def lora(machine):
    """The command that fine-tunes the small run's model and serves it."""
    changes = {
        "model.from": "run://small",
        "stages.sft.epochs": "0.1",
        "evaluation.gates[0].max": "8",
        "evaluation.gates[1].maxRegression": "8",
        "evaluation.gates[2].min": "0",
        "evaluation.data[1].uri": "file://general.jsonl",
        "evaluation.gates[3].maxRegression": "8",
        "evaluation.gates[4].maxRegression": "8",
        "serving.template.port": machine.port,
        "serving.template.rollout.probation": "2s",
    }
    sets = (word for path, value in changes.items() for word in ("--set", f"{path}={value}"))
    return ("run", "lora-from-folder.yaml", *sets)


def server_pid(machine):
    """The child of the endpoint's daemon, once it is the only one: a version that was replaced goes after a while."""
    daemon = json.loads((machine.folder / ".slipway/endpoints/chat/daemon.json").read_text())["pid"]
    children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    return int(children[0]) if len(children) == 1 else None


def answers(machine):
    try:
        return (
            httpx.post(f"{machine.url}/chat", json={"message": "你好", "max_length": 4}, timeout=30).status_code == 200
        )
    except httpx.TransportError:
        return False
