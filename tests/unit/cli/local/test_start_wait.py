"""How long a model that passed is waited for: as long as its server loads, and not while it can never start."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from tests.unit.cli.cluster.objects import condition

from slipway.local.start_wait import start_wait
from slipway.local.state import State
from slipway.screen.view import LineView
from slipway.start_wait import FAILED_STARTS, ServerEnd
from slipway_core.resources.metadata import Metadata
from slipway_core.resources.model_endpoint import ModelEndpoint, ModelEndpointSpec
from slipway_core.resources.status import ArtifactStatus, EndpointPhase, EndpointStatus, Phase, RunStatus, VersionStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SINCE = "2026-01-01T00:00:00Z"
MADE = ArtifactStatus(uri="file:///m", digest=f"sha256:{1:064x}")
HELD_BACK = condition("Live", "False", "RollingOut", "held back: no key")
WAITS = RunStatus(phase=Phase.ROLLING_OUT, artifact=MADE, conditions=[HELD_BACK])
NOT_NOW = condition("Live", "False", "NotAnswering", "it does not answer")
SILENT = RunStatus(phase=Phase.SERVING, artifact=MADE, conditions=[NOT_NOW])
LIVE = RunStatus(phase=Phase.SERVING, conditions=[condition("Live", "True", "Serving", "it serves")])


def version(number, state, model=1):
    return VersionStatus(version=number, uri="file:///m", digest=f"sha256:{model:064x}", state=state, since=SINCE)


class World:
    """An endpoint in its folder, and a clock."""

    def __init__(self, folder, within=None, **status):
        self.now, self.in_a_row = NOON, 0
        self.folder = State.below(folder).endpoint("chat")
        rollout = {"startTimeout": "10m"}
        spec = ModelEndpointSpec.model_validate({"rollout": rollout}, by_alias=True, by_name=False)
        self.folder.save(ModelEndpoint(metadata=Metadata(name="chat"), spec=spec))
        self.shows(**(status or {"live": version(1, "Live")}))
        self.wait = start_wait(self.folder, lambda: self.now, within)

    def shows(self, **status):
        ready = condition("Ready", "False", "NotAnswering", "version 1: its server starts")
        self.folder.save_status(EndpointStatus(phase=EndpointPhase.DEGRADED, conditions=[ready], **status))

    def ends(self, why="its server ended with exit code 1: OSError: no memory"):
        self.in_a_row += 1
        self.folder.add_server_end(1, ServerEnd(self.now, why, self.in_a_row))

    def later(self, seconds, status=WAITS):
        self.now += timedelta(seconds=seconds)
        return [event.message for event in self.wait.look(status)]


@pytest.mark.parametrize("status", [WAITS, SILENT])
def test_a_server_that_ends_again_and_again_before_it_answers_is_not_waited_for(tmp_path, status):
    world = World(tmp_path)
    for _ in range(5):
        world.ends("an end of yesterday")
    assert world.later(1, status) == []
    world.in_a_row = 0
    for number in range(FAILED_STARTS):
        assert world.wait.over is None
        world.ends()
        told = world.later(5, status)
        assert len(told) == (number == 0), "the same reason is told once"
    assert world.wait.over == (
        "the server of version 1 ended 3 times in a row, at last: its server ended with exit code 1: OSError: no memory"
    )


def test_of_a_server_that_has_ended_again_and_again_before_one_more_end_is_enough(tmp_path):
    world = World(tmp_path)
    for _ in range(5):
        world.ends()
    world.later(1)
    world.later(30)
    assert world.wait.over is None
    world.ends()
    world.later(1)
    assert world.wait.over is not None
    assert "ended 6 times in a row" in world.wait.over


def test_a_server_that_still_loads_is_waited_for_as_long_as_its_endpoint_says(tmp_path):
    world = World(tmp_path)
    world.later(0)
    world.later(599)
    assert world.wait.over is None
    world.later(2)
    assert world.wait.over == "it did not answer within 10 min 0 s: version 1: its server starts"


def test_who_starts_the_command_says_how_long(tmp_path):
    long = World(tmp_path / "long", timedelta(hours=2))
    for _ in range(12):
        long.later(590)
    assert long.wait.over is None
    short = World(tmp_path / "short", timedelta(seconds=5), candidate=version(1, "Starting"))
    short.later(0)
    short.later(6)
    assert short.wait.over is not None
    assert short.wait.over.startswith("it did not answer within 5 s")


def test_a_candidate_is_left_to_its_endpoint_and_what_follows_it_has_its_own_time(tmp_path):
    world = World(tmp_path, candidate=version(2, "Starting"), live=version(1, "Live"))
    world.later(0)
    world.ends()
    world.later(5000)
    assert world.wait.over is None
    world.shows(live=version(1, "Live"))
    world.later(0)
    world.later(599)
    assert world.wait.over is None
    world.later(2)
    assert world.wait.over is not None


def test_what_ends_of_another_model_is_not_told_of_this_one(tmp_path):
    world = World(tmp_path, live=version(1, "Live", model=2))
    world.later(0)
    for _ in range(FAILED_STARTS + 1):
        world.ends()
        assert world.later(5) == []
    assert world.wait.over is None
    world.later(60)
    assert world.wait.over == "it did not answer within 1 min 0 s: held back: no key"


def test_a_candidate_of_another_model_hides_no_end_of_this_one(tmp_path):
    world = World(tmp_path, live=version(1, "Live"), candidate=version(2, "Starting", model=2))
    world.later(0, NOT_YET)
    for _ in range(FAILED_STARTS):
        assert world.wait.over is None
        world.ends()
        world.later(5, NOT_YET)
    assert world.wait.over is not None
    assert world.wait.over.startswith("the server of version 1 ended 3 times in a row")


def test_a_model_that_answers_meanwhile_begins_anew(tmp_path):
    world = World(tmp_path)
    world.later(0)
    world.ends()
    world.ends()
    world.later(1)
    world.later(1, LIVE)
    world.ends()
    world.later(1)
    world.later(500)
    assert world.wait.over is None


def test_where_no_version_starts_the_reason_of_the_run_is_told(tmp_path):
    world = World(tmp_path, live=None)
    world.folder.save_status(EndpointStatus(phase=EndpointPhase.PENDING))
    world.later(0)
    world.later(59)
    assert world.wait.over is None
    world.later(2)
    assert world.wait.over == "it did not answer within 1 min 0 s: held back: no key"


NOT_YET = RunStatus(
    phase=Phase.ROLLING_OUT,
    artifact=MADE,
    conditions=[
        condition(type_, status, reason, "version 1 does not answer yet; `slipway status endpoint/chat` says why")
        for type_, status, reason in (("Live", "False", "NotAnswering"), ("Progressing", "True", "RollingOut"))
    ],
)


@pytest.mark.parametrize("status", [NOT_YET, SILENT])
def test_who_waits_reads_the_reason_of_the_endpoint_and_no_command_that_shows_it(tmp_path, status):
    screen = Console(file=io.StringIO(), width=200)
    world, view = World(tmp_path), LineView(screen)
    world.later(0, status)
    view._last_line = -1000.0
    view(world.wait.told(status), ())
    assert "endpoint chat does not answer yet: version 1: its server starts\n" in screen.file.getvalue()
    assert "slipway status" not in screen.file.getvalue()


@pytest.mark.parametrize("status", [WAITS, LIVE, NOT_YET])
def test_where_the_endpoint_has_no_reason_of_its_own_that_of_the_run_is_read(tmp_path, status):
    world = World(tmp_path)
    if status is NOT_YET:
        world.folder.save_status(EndpointStatus(phase=EndpointPhase.PENDING))
    world.later(0, status)
    assert world.wait.told(status) == status


@pytest.mark.parametrize(
    "text", ["", "{}", '[{"at": "then"}, 3, {"at": "2026-01-01T12:00:00+00:00", "why": "x", "inARow": 2}]']
)
def test_a_damaged_list_of_ends_is_as_good_as_what_can_be_read_of_it(tmp_path, text):
    folder = State.below(tmp_path).endpoint("chat")
    path = folder.version(1) / "server-ends.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert folder.server_ends(1) == ([ServerEnd(NOON, "x", 2)] if "why" in text else [])
    for number in range(20):
        folder.add_server_end(1, ServerEnd(NOON, str(number), number))
    assert [end.why for end in folder.server_ends(1)] == [str(number) for number in range(12, 20)]
