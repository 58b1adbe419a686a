import pytest

from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step.errors import BadConfig, BadModel, DamagedShard


def test_a_fetched_model_that_is_gone_is_prepared_again(tmp_path):
    with pytest.raises(DamagedShard, match=r"model\.from: s3://models/base: .* is gone"):
        model_folder("s3://models/base", fetched=tmp_path)
    with pytest.raises(BadConfig, match=r"tokenizer: s3://models/base: a model is not read from s3://"):
        model_folder("s3://models/base", "tokenizer")


def test_a_model_folder_is_one_that_is_there(tmp_path):
    assert model_folder(f"file://{tmp_path}") == tmp_path
    with pytest.raises(BadModel, match=r"model\.from: .*there is no such folder"):
        model_folder(f"file://{tmp_path}/none")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadModel, match="is not a folder"):
        model_folder(f"file://{tmp_path}/file")


def test_runs_and_claims_lie_where_the_executor_says(tmp_path, monkeypatch):
    with pytest.raises(BadConfig, match="did not set SLIPWAY_RUNS"):
        model_folder("run://base")
    (tmp_path / "base" / "artifact").mkdir(parents=True)
    monkeypatch.setenv("SLIPWAY_RUNS", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_CLAIMS", str(tmp_path))
    assert model_folder("run://base") == tmp_path / "base" / "artifact"
    assert model_folder("pvc://base/artifact") == tmp_path / "base" / "artifact"
