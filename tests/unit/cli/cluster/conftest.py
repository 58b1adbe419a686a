import pytest
from tests.unit.cli.cluster import folder_cluster


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    return folder_cluster.make(tmp_path / "cluster", monkeypatch)
