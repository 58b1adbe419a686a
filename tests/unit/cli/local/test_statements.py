"""The key of a state folder, and which of the statements in it count."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests.unit.core.statements import DIGEST, KEY, OTHER_KEY, sealed

from slipway.local.state import State, StateError
from slipway.local.statements import KeyLostError, Statements, frozen_statement
from slipway_core.protocol import trust
from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.trust import Flaw, TrustedKey
from slipway_core.resources.status import Verdict


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.below(tmp_path)


def _trust(state: State, *keys: TrustedKey) -> None:
    state.trusted_keys.parent.mkdir(parents=True, exist_ok=True)
    state.trusted_keys.write_text(trust.dump(keys))


def _write(state: State, name: str, text: str) -> Path:
    path = state.statements(DIGEST) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _with_key(state: State, key: SigningKey = KEY) -> Statements:
    _trust(state, TrustedKey.of(key.public))
    state.signing_key.write_text(key.pem)
    return Statements(state)


def test_the_key_is_made_once_and_its_owner_alone_reads_it(state: State) -> None:
    key = Statements(state).signing_key()
    assert Statements(state).signing_key() == key
    assert stat.S_IMODE(state.signing_key.stat().st_mode) == 0o600
    assert [one.id for one in Statements(state).trusted()] == [key.public.id]
    assert key.pem.split("\n")[1] not in state.trusted_keys.read_text()
    assert sorted(path.name for path in state.signing_key.parent.iterdir()) == ["signing.pem", "trusted.json"]


def test_two_judgements_at_once_have_one_key(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one makes the key between our look and our own attempt."""
    looked = Statements._require_no_other_key  # pyright: ignore[reportPrivateUsage]

    def after_another(own: Statements) -> None:
        monkeypatch.setattr(Statements, "_require_no_other_key", looked)
        Statements(state).signing_key()
        looked(own)

    monkeypatch.setattr(Statements, "_require_no_other_key", after_another)
    assert Statements(state).signing_key() == Statements(state).signing_key()


def test_a_key_signs_until_its_end_has_come(state: State) -> None:
    key = _with_key(state).signing_key()
    _trust(state, TrustedKey.of(key.public).model_copy(update={"not_after": "2999-01-01T00:00:00Z"}))
    assert Statements(state).signing_key() == key


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    assert Statements(State(tmp_path / "a")).signing_key() != Statements(State(tmp_path / "b")).signing_key()


def test_a_lost_key_is_not_replaced_in_silence(state: State) -> None:
    Statements(state).signing_key()
    state.signing_key.unlink()
    with pytest.raises(KeyLostError, match=r"signing\.pem: the key '[0-9a-f]{16}' .* missing; put it back, or set its"):
        Statements(state).signing_key()
    state.trusted_keys.unlink()
    _write(state, "one", sealed())
    with pytest.raises(KeyLostError, match="put it back, or remove that folder"):
        Statements(state).signing_key()


@pytest.mark.parametrize("end", [{"not_after": "2026-01-01T00:00:00Z"}, {"revoked": True}])
def test_a_key_that_was_retired_gives_way_to_a_new_one(state: State, end: dict[str, object]) -> None:
    old = _with_key(state).signing_key()
    _trust(state, TrustedKey.of(old.public).model_copy(update=end))
    with pytest.raises(StateError, match="move the file away, and a new key is made"):
        Statements(state).signing_key()
    state.signing_key.unlink()
    new = Statements(state).signing_key()
    assert [one.id for one in Statements(state).trusted()] == [old.public.id, new.public.id]


def test_a_key_that_is_not_in_the_list_is_refused_with_its_line(state: State) -> None:
    _with_key(state)
    _trust(state, TrustedKey.of(OTHER_KEY.public))
    with pytest.raises(StateError, match=KEY.public.id):
        Statements(state).signing_key()


@pytest.mark.parametrize(("text", "words"), [("{}", "array"), ('[{"id": "a"}]', "0.key"), ("\xff", "whole")])
def test_a_list_that_cannot_be_used_is_named(state: State, text: str, words: str) -> None:
    _trust(state)
    state.trusted_keys.write_text(text)
    with pytest.raises(StateError, match=rf"trusted\.json: .*{words}"):
        Statements(state).trusted()


def test_a_damaged_key_is_named(state: State) -> None:
    _with_key(state)
    state.signing_key.write_text("nonsense")
    with pytest.raises(StateError, match=r"signing\.pem: is no private ed25519 key"):
        Statements(state).signing_key()


def test_a_the_newest_statement_counts_as_the_files_are_now(state: State) -> None:
    statements = _with_key(state)
    assert not statements.standing(DIGEST).passed
    _write(state, "one", sealed())
    assert statements.standing(DIGEST).passed
    worse = _write(state, "two", sealed(Verdict.FAIL, judged_at="2026-11-29T05:00:00Z", evaluation=2))
    assert statements.standing(DIGEST).flaw is Flaw.NOT_PASSED
    worse.write_text(worse.read_text()[:-30])
    standing = statements.standing(DIGEST)
    assert standing.flaw is Flaw.UNREADABLE
    assert f"{worse}: the statement" in standing.why
    assert standing.why.endswith("put the right one back, or remove it and have a run judge the model again")
    worse.unlink()
    assert statements.standing(DIGEST).passed
    _trust(state, TrustedKey.of(KEY.public).model_copy(update={"revoked": True}))
    assert statements.standing(DIGEST).flaw is Flaw.KEY_REVOKED


def test_a_damaged_by_hand_is_found(state: State) -> None:
    document = json.loads(sealed())
    document["payload"] = document["payload"].replace("A", "B", 1)
    _write(state, "one", json.dumps(document))
    assert _with_key(state).standing(DIGEST).flaw is Flaw.BAD_SIGNATURE


def test_b_a_version_keeps_the_statement_that_it_started_with(state: State, tmp_path: Path) -> None:
    statements, kept = _with_key(state), tmp_path / "versions" / "1" / "statement.json"
    _write(state, "one", sealed())
    first = frozen_statement(kept, DIGEST, statements.trusted(), statements.standing(DIGEST))
    assert kept.read_text() == first == sealed()
    _write(state, "two", sealed(Verdict.FAIL, judged_at="2026-11-29T05:00:00Z", evaluation=2))
    assert frozen_statement(kept, DIGEST, statements.trusted(), statements.standing(DIGEST)) == first
    kept.write_text("damaged")
    with pytest.raises(StateError, match="evaluation 2 of the run poems came out as Fail"):
        frozen_statement(kept, DIGEST, statements.trusted(), statements.standing(DIGEST))
