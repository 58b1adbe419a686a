"""A server that is given a statement loads no model but the one that it lets through."""

from __future__ import annotations

import pytest
from tests.unit.core.statements import DIGEST, OTHER_DIGEST, TRUSTED, sealed

from slipway_core.protocol.artifact import FileEntry, Manifest
from slipway_core.protocol.commands import serve_environment
from slipway_core.resources.status import Verdict
from slipway_serving.main import require_statement
from slipway_serving.settings import SettingsError


def _manifest(digest: str = DIGEST) -> Manifest:
    files = {"model.safetensors": FileEntry(size=1, sha256="0" * 64)}
    return Manifest(digest=digest, files=files, run="poems", plan_digest=DIGEST, created_at="now")


def test_a_server_says_whose_verdict_it_serves_by(capsys: pytest.CaptureFixture[str]) -> None:
    require_statement(serve_environment(sealed(), TRUSTED), _manifest())
    said = capsys.readouterr().err
    assert f"signed by the key {TRUSTED[0].id}: evaluation 1 of the run poems" in said


@pytest.mark.parametrize(
    ("text", "keys", "digest", "words"),
    [
        (sealed(), TRUSTED, OTHER_DIGEST, "about the model"),
        (sealed(Verdict.FAIL), TRUSTED, DIGEST, "came out as Fail"),
        (sealed()[:80], TRUSTED, DIGEST, "is no envelope"),
        (sealed(), (), DIGEST, "trusted are: none"),
    ],
)
def test_a_it_serves_nothing_else(text: str, keys: tuple, digest: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"the model is not served: .*{words}"):
        require_statement(serve_environment(text, keys), _manifest(digest))


def test_a_keys_that_cannot_be_read_are_no_keys() -> None:
    environment = {**serve_environment(sealed(), TRUSTED), "SLIPWAY_TRUSTED_KEYS": "[{}]"}
    with pytest.raises(SettingsError, match=r"SLIPWAY_TRUSTED_KEYS: 0\.id"):
        require_statement(environment, _manifest())


def test_without_a_statement_none_is_asked_for() -> None:
    require_statement({}, _manifest())
