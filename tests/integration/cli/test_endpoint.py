"""The local executor of an endpoint with real processes and real connections; only the model is a stand-in."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.integration.cli.local_endpoint import LocalEndpoint, Traffic, digest_of

from slipway.local import ports
from slipway.local.endpoints import daemon
from slipway.local.endpoints.daemon import DaemonError
from slipway_core.protocol import trust
from slipway_core.resources.status import EndpointPhase, Verdict
from slipway_host.files import write_atomically

PATIENT = {"drain": "30s"}
"""With the streams of a machine on which they take several times as long."""


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[LocalEndpoint]:
    made = LocalEndpoint(tmp_path)
    try:
        yield made
    finally:
        made.clean_up()


def test_a_model_that_passed_goes_live_and_answers(endpoint: LocalEndpoint):
    endpoint.serve("one")
    assert endpoint.answers_with() == "one"
    assert endpoint.status.url == endpoint.url
    assert endpoint.status.observed_generation == 1
    endpoint.wait_until_told("CandidateStarting", "TookOver")
    assert endpoint.events()[:2] == ["CandidateStarting", "TookOver"]


def test_A_a_model_without_a_verdict_never_runs_and_the_port_says_why(endpoint: LocalEndpoint):
    endpoint.model("one")
    endpoint.ask_for("one")
    endpoint.start()
    time.sleep(0.5)
    assert endpoint.servers() == []
    answer = endpoint.chat()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "no version is live" in answer.json()["error"]["message"]
    endpoint.passes("one")
    endpoint.wait_until_live(1)


def test_A_a_verdict_that_was_tampered_with_starts_nothing_and_the_status_says_so(endpoint: LocalEndpoint):
    endpoint.model("one")
    statement = endpoint.judged(digest_of("one"), Verdict.FAIL)
    document = json.loads(statement.read_text())
    payload = base64.b64decode(document["payload"]).replace(b'"verdict":"Fail"', b'"verdict":"Pass"')
    statement.write_text(json.dumps({**document, "payload": base64.b64encode(payload).decode()}))
    endpoint.ask_for("one")
    endpoint.start()
    endpoint.wait(lambda: endpoint.condition("Judged") is not None, "it says how the model was judged")
    judged = endpoint.condition("Judged")
    assert judged is not None
    assert (judged.status, judged.reason) == ("False", "SignatureWrong")
    assert endpoint.servers() == []


def test_B_a_revoked_key_takes_the_traffic_away_and_a_new_judgement_brings_it_back(endpoint: LocalEndpoint):
    endpoint.serve("one")
    keys = endpoint.state.trusted_keys
    (old,) = trust.keys_of(keys.read_text())
    live = endpoint.status.live
    assert live is not None
    assert live.signed_by == old.id
    assert endpoint.server_variable("SLIPWAY_TRUSTED_KEYS") == trust.dump([old])
    endpoint.state.signing_key.unlink()
    write_atomically(keys, trust.dump([old.model_copy(update={"revoked": True})]))
    endpoint.wait(lambda: endpoint.chat().status_code == 503, "the traffic is gone")
    endpoint.wait(lambda: endpoint.condition("KeyRevoked") is not None, "the condition says why")
    endpoint.judged(digest_of("one"), evaluation=2)
    endpoint.wait_until_live(2)
    assert endpoint.answers_with() == "one"
    assert endpoint.condition("KeyRevoked") is None


def test_B_a_later_judgement_that_fails_takes_nothing_from_what_is_live(endpoint: LocalEndpoint):
    endpoint.serve("one")
    endpoint.judged(digest_of("one"), Verdict.FAIL, evaluation=2, judged_at="2026-11-29T05:00:00Z")
    endpoint.wait(lambda: endpoint.judged_reason() == "NotPassed", "the status says so")
    (server,) = endpoint.servers()
    os.kill(server, signal.SIGKILL)
    endpoint.wait(lambda: endpoint.chat().status_code == 200, "it came back after a crash")


def test_B_what_an_earlier_release_started_goes_on_and_is_marked(endpoint: LocalEndpoint):
    endpoint.serve("one")
    endpoint.stop()
    status = endpoint.status
    assert status.live is not None
    unsigned = status.live.model_copy(update={"signed_by": None})
    endpoint.files.save_status(status.model_copy(update={"live": unsigned}))
    shutil.rmtree(endpoint.state.all_statements)
    endpoint.start()
    endpoint.wait(lambda: endpoint.chat().status_code == 200, "it answers")
    assert endpoint.judged_reason() == "Unsigned"
    assert endpoint.server_variable("SLIPWAY_STATEMENT") is None


def test_A_a_candidate_that_does_not_know_whether_it_is_the_model_that_was_judged_gets_no_traffic(
    endpoint: LocalEndpoint,
):
    endpoint.serve("one")
    assert endpoint.status.live is not None
    assert endpoint.status.live.parity is not None
    endpoint.roll_out("two", parity=None)
    endpoint.wait_until_failed(2)
    assert endpoint.chat().json()["response"] == "one"
    unknown = {one.type: one for one in endpoint.status.conditions}["ParityUnknown"]
    assert (unknown.status, unknown.reason) == ("True", "NotCompared")


def test_A_a_model_whose_evaluation_left_no_record_does_not_start(endpoint: LocalEndpoint):
    endpoint.model("one")
    endpoint.judged(digest_of("one"), record=None)
    endpoint.ask_for("one")
    endpoint.start()
    endpoint.wait(lambda: any(one.reason == "NoRecord" for one in endpoint.status.conditions), "it says so", 20)
    assert endpoint.servers() == []


# ------------------------------------------------------------------------------------------------ B: the take-over


def test_B_a_take_over_has_no_gap_for_requests_connections_or_streams(endpoint: LocalEndpoint):
    endpoint.serve("one", rollout=PATIENT)
    with Traffic(endpoint) as traffic:
        traffic.stream(80)  # 4 s: begins with the first version, and goes on through its probation and drain.
        endpoint.wait(lambda: bool(traffic.answers), "the first version answers")
        endpoint.roll_out("two", load=0.7, rollout=PATIENT)
        endpoint.wait_until_live(2)
        traffic.stream(10)
        endpoint.wait(lambda: len(endpoint.servers()) == 1, "the first version has ended")
        alone = len(traffic.answers)
        endpoint.wait(lambda: len(traffic.answers) >= max(30, alone + 10), "enough was asked")
    assert traffic.failures == []
    switch = traffic.answers.index("two")
    assert set(traffic.answers[switch + 2 :]) == {"two"}, (
        "after the switch nobody, old connection or new, is left behind"
    )
    assert sorted(len(stream) for stream in traffic.streams) == [11, 81]


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"exit": [2, "slipway-server: /m/two: damaged"]}, "/m/two: damaged"),
        ({"exit": [1, "ValueError: no such layer"]}, "exit code 1: ValueError: no such layer"),
        ({"ready": False}, "not ready within 2s"),
        ({"tokens": 0}, "the answer has no token"),
        ({"crashes": True}, "exit code 1"),
    ],
    ids=["refuses its input", "crashes as it loads", "never ready", "answers nothing", "crashes when asked"],
)
def test_B_a_candidate_that_fails_is_never_noticed_by_a_client(endpoint: LocalEndpoint, behaviour: dict, says: str):
    endpoint.serve("one", rollout={"startTimeout": "2s"})
    endpoint.model("two", load=0.1, **behaviour)
    endpoint.passes("two")
    with Traffic(endpoint) as traffic:
        endpoint.ask_for("two", rollout={"startTimeout": "2s"})
        endpoint.wait_until_failed(2)
        endpoint.wait(lambda: len(endpoint.servers()) == 1, "the candidate has ended", 10)
    assert traffic.failures == []
    assert set(traffic.answers) == {"one"}
    assert says in (endpoint.status.history[0].message or "")
    assert endpoint.status.phase == EndpointPhase.SERVING
    endpoint.wait_until_told("CandidateFailed")


@pytest.mark.parametrize("how", ["killed", "unready"])
def test_B_a_version_that_fails_in_its_probation_gives_way_to_the_last_good_one(endpoint: LocalEndpoint, how: str):
    endpoint.serve("one", rollout={"probation": "20s"})
    endpoint.model("two")
    endpoint.passes("two")
    first = set(endpoint.servers())
    endpoint.ask_for("two", rollout={"probation": "20s"})
    endpoint.wait_until_live(2)
    if how == "killed":
        (second,) = set(endpoint.servers()) - first
        os.kill(second, signal.SIGKILL)
    else:
        endpoint.model("two", ready=False)
    endpoint.wait_until_live(1)
    assert endpoint.answers_with() == "one"
    assert set(endpoint.servers()) >= first, "the version that comes back was running all the time"
    endpoint.wait_until_told("RolledBack")
    time.sleep(0.5)
    assert endpoint.status.candidate is None, "what failed is not tried again"


def test_B_recreate_runs_one_version_at_a_time_and_puts_the_last_good_one_back(endpoint: LocalEndpoint):
    recreate = {"rollout": {"strategy": "Recreate"}}
    endpoint.serve("one", **recreate)
    endpoint.model("two", exit=[1, "boom"])
    endpoint.passes("two")
    most = 0
    endpoint.ask_for("two", **recreate)

    def back() -> bool:
        nonlocal most
        most = max(most, len(endpoint.servers()))
        return endpoint.status.phase == EndpointPhase.SERVING and "CandidateFailed" in endpoint.events()

    endpoint.wait(back, "version 1 is back")
    assert endpoint.answers_with() == "one"
    assert most == 1


# ------------------------------------------------------------------------------------------ what dies comes back


def test_a_live_server_that_is_killed_comes_back_and_clients_are_told_when(endpoint: LocalEndpoint):
    endpoint.model("one", load=1.0)
    endpoint.serve("one")
    (server,) = endpoint.servers()
    with httpx.Client() as client:
        assert endpoint.chat(client).status_code == 200
        os.kill(server, signal.SIGKILL)
        endpoint.wait(lambda: endpoint.servers() != [server], "the death was noticed")
        answer = endpoint.chat(client)
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 3, "it is known by now how long the model takes to load"
        assert "SIGKILL" in answer.json()["error"]["message"]
        assert answer.json()["error"]["code"] == 503
        endpoint.wait_until_live(1)
        assert endpoint.chat(client).status_code == 200
    endpoint.wait_until_told("NotAnswering", "Answering")


def test_nothing_is_left_of_what_servers_put_aside(endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        endpoint.serve("one")
        (server,) = endpoint.servers()
        os.kill(server, signal.SIGKILL)
        endpoint.wait(lambda: endpoint.servers() not in ([server], []), "another one was started")
        endpoint.wait_until_live(1)
        assert len(os.listdir(folder)) == 1
        endpoint.stop()
        assert os.listdir(folder) == []


def test_a_server_that_hangs_is_killed_and_started_again(endpoint: LocalEndpoint):
    endpoint.serve("one")
    (server,) = endpoint.servers()
    os.kill(server, signal.SIGSTOP)
    endpoint.wait(lambda: server not in endpoint.servers(), "the hung server was killed")
    endpoint.wait_until_live(1)
    assert endpoint.answers_with() == "one"
    degraded = [json.loads(line) for line in (endpoint.files.root / "events.jsonl").read_text().splitlines()]
    assert any(event["reason"] == "NotAnswering" for event in degraded)


def test_a_server_that_dies_while_it_is_asked_is_told_to_the_client(endpoint: LocalEndpoint):
    endpoint.serve("one")
    endpoint.model("one", crashes=True)
    answer = endpoint.chat()
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_servers_end_with_a_killed_daemon_and_the_next_one_brings_the_live_version_back(endpoint: LocalEndpoint):
    endpoint.serve("one")
    endpoint.roll_out("two")
    endpoint.wait_until_live(2)
    endpoint.wait(lambda: len(endpoint.servers()) == 1, "the first version has ended")
    (server,) = endpoint.servers()
    endpoint.kill_daemon()
    endpoint.wait(lambda: not Path(f"/proc/{server}").exists(), "the server is gone")
    assert endpoint.status.phase == EndpointPhase.STOPPED
    endpoint.model("two", load=0.5)
    endpoint.start()
    assert endpoint.status.phase == EndpointPhase.DEGRADED, "what the killed daemon wrote last is no longer true"
    endpoint.wait_until_live(2)
    assert endpoint.answers_with() == "two"


# ------------------------------------------------------------------------------------------------- start and stop


def test_stop_lets_streams_complete_and_sends_new_requests_away(endpoint: LocalEndpoint):
    endpoint.serve("one", rollout=PATIENT)
    with Traffic(endpoint, per_second=0.01) as traffic:
        traffic.stream(80)
        stopping = threading.Thread(target=endpoint.stop)
        stopping.start()
        endpoint.wait(lambda: endpoint.chat().status_code == 503, "new requests are sent away")
        assert len(traffic.streams[0]) < 81, "the stream goes on"
        stopping.join(60)
    assert traffic.failures == []
    assert len(traffic.streams[0]) == 81
    assert endpoint.status.phase == EndpointPhase.STOPPED
    assert endpoint.status.live is not None
    assert ports.port_in_use(endpoint.port) is None


def test_stop_twice_stops_once_and_a_later_start_serves_the_same_version(endpoint: LocalEndpoint):
    endpoint.serve("one")
    endpoint.stop()
    endpoint.stop()
    document = json.loads((endpoint.files.root / "status.json").read_text())
    assert (document["phase"], document["live"]["version"]) == ("Stopped", 1), "the file itself tells the truth"
    endpoint.start()
    endpoint.wait_until_live(1)
    assert endpoint.events().count("CandidateStarting") == 1


def test_many_starts_at_once_make_one_daemon(endpoint: LocalEndpoint):
    endpoint.model("one")
    endpoint.passes("one")
    endpoint.ask_for("one")
    errors: list[Exception] = []

    def start() -> None:
        try:
            endpoint.start()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    pid = endpoint.daemon_pid()
    endpoint.start()
    assert endpoint.daemon_pid() == pid
    endpoint.wait_until_live(1)


def test_a_port_in_use_names_its_holder_and_the_fix(endpoint: LocalEndpoint):
    holder = subprocess.Popen([sys.executable, "-m", "http.server", str(endpoint.port), "--bind", "127.0.0.1"])
    try:
        endpoint.wait(lambda: ports.port_in_use(endpoint.port) is not None, "the port is taken")
        found = daemon.port_in_use(endpoint.port)
        assert found is not None
        assert found.pid == holder.pid
        endpoint.model("one")
        endpoint.ask_for("one")
        with pytest.raises(DaemonError) as caught:
            endpoint.start()
    finally:
        holder.kill()
        holder.wait()
    message = str(caught.value)
    assert f"port {endpoint.port} is in use by process {holder.pid} (" in message
    assert "http.server" in message
    assert f"--set serving.template.port={endpoint.port + 1}" in message


def test_a_port_that_another_endpoint_has_says_how_to_stop_that(endpoint: LocalEndpoint, tmp_path: Path):
    endpoint.serve("one")
    other = LocalEndpoint(tmp_path / "other", "second")
    other.port = endpoint.port
    other.model("one")
    other.ask_for("one")
    with pytest.raises(DaemonError, match="`slipway stop chat` frees it"):
        other.start()


def test_an_endpoint_that_is_removed_ends_its_daemon(endpoint: LocalEndpoint):
    endpoint.serve("one")
    (endpoint.files.root / "endpoint.json").unlink()
    endpoint.wait(lambda: endpoint.files.daemon() is None, "the daemon is gone")
    assert endpoint.servers() == []


def test_a_damaged_endpoint_keeps_serving_and_says_so(endpoint: LocalEndpoint):
    endpoint.serve("one")
    (endpoint.files.root / "endpoint.json").write_text('{"kind": "ModelEndpoint"')

    def conditions() -> list[dict]:
        # The file of the spec is damaged, so the status is read alone.
        return json.loads((endpoint.files.root / "status.json").read_text())["conditions"]

    endpoint.wait(lambda: any(c["type"] == "SpecUnreadable" for c in conditions()), "a condition says so")
    assert endpoint.answers_with() == "one"


def test_a_status_that_does_not_change_is_not_written_again(endpoint: LocalEndpoint):
    endpoint.serve("one")

    def is_left_alone() -> bool:
        before = (endpoint.files.root / "status.json").stat()
        time.sleep(1.2)  # Several looks at the world.
        after = (endpoint.files.root / "status.json").stat()
        return (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)

    endpoint.wait(is_left_alone, "what happens to a version that went live is written", 6)


def test_a_changed_port_applies_in_place(endpoint: LocalEndpoint):
    endpoint.serve("one")
    (server,) = endpoint.servers()
    endpoint.port = ports.private_port()
    endpoint.ask_for("one")
    endpoint.url = f"http://127.0.0.1:{endpoint.port}"
    endpoint.wait(lambda: endpoint.status.url == endpoint.url, "the address is the new one")
    assert endpoint.answers_with() == "one"
    assert endpoint.servers() == [server]


# -------------------------------------------------------------------------------------------------------- access


def listening_on(port: int) -> set[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    return {".".join(str(int(address[i : i + 2], 16)) for i in (6, 4, 2, 0)) for address in found}


def test_without_a_word_about_access_only_this_machine_reaches_it(endpoint: LocalEndpoint):
    endpoint.serve("one")
    assert listening_on(endpoint.port) == {"127.0.0.1"}


def test_anonymous_access_that_is_asked_for_opens_it_to_everybody(endpoint: LocalEndpoint):
    endpoint.serve("one", access={"anonymous": True})
    endpoint.wait(lambda: listening_on(endpoint.port) == {"0.0.0.0"}, "it is open to others")
    assert endpoint.answers_with() == "one"


def test_keys_open_it_to_others_once_the_version_that_asks_for_them_is_live(endpoint: LocalEndpoint):
    (endpoint.folder / "keys").write_text("secret")
    endpoint.serve("one")
    with Traffic(endpoint) as traffic:
        endpoint.model("one", load=0.5)
        endpoint.ask_for("one", access={"keysFile": "keys"})
        endpoint.wait(lambda: endpoint.status.candidate is not None, "the candidate starts")
        assert listening_on(endpoint.port) == {"127.0.0.1"}, "the live version asks for no key yet"
        endpoint.wait_until_live(2)
        endpoint.wait(lambda: listening_on(endpoint.port) == {"0.0.0.0"}, "it is open to others")
    assert all("401" in failure for failure in traffic.failures), "nobody was cut off; a key is asked for, that is all"
    assert endpoint.chat().status_code == 401
    answer = httpx.post(f"{endpoint.url}/chat", json={"message": "x"}, headers={"Authorization": "Bearer secret"})
    assert answer.status_code == 200
    endpoint.ask_for("one")
    endpoint.wait_until_live(3)
    endpoint.wait(lambda: listening_on(endpoint.port) == {"127.0.0.1"}, "only this machine reaches it")


@pytest.mark.parametrize(
    ("access", "says"),
    [({"keysSecret": "keys"}, "access.keysFile"), ({"anonymous": False}, "there are no keys")],
    ids=["secret", "nobody"],
)
def test_access_that_cannot_be_had_here_is_refused_with_the_fix(endpoint: LocalEndpoint, access: dict, says: str):
    endpoint.model("one")
    endpoint.passes("one")
    endpoint.ask_for("one", access=access)
    endpoint.start()
    endpoint.wait_until_failed(1)
    assert says in (endpoint.status.history[0].message or "")
    assert endpoint.servers() == []


def test_a_version_keeps_the_settings_that_it_was_made_with(endpoint: LocalEndpoint):
    (endpoint.folder / "keys").write_text("secret")
    endpoint.serve("one", access={"keysFile": "keys"})
    endpoint.stop()
    endpoint.ask_for("other", access={})  # Without a verdict, so it never starts.
    endpoint.start()
    endpoint.wait_until_live(1)
    assert endpoint.chat().status_code == 401
    assert endpoint.status.live is not None
    assert endpoint.status.live.digest == digest_of("one")
