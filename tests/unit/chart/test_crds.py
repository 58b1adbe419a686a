"""The CRDs upgrade with the chart and outlive it."""

import pytest
from tests.unit.chart.rendering import CHART, Helm, documents

GENERATED = sorted((CHART / "crds-generated").glob("*.yaml"))


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.stem)
def test_a_crd_is_the_generated_one_and_stays_when_the_chart_goes(helm: Helm, path) -> None:
    (wanted,) = documents(path.read_text())
    crd = helm.render().one("CustomResourceDefinition", wanted["metadata"]["name"], None)
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert crd == wanted


def test_crds_can_be_left_to_somebody_else(helm: Helm) -> None:
    assert len(helm.render().all("CustomResourceDefinition")) == len(GENERATED) == 2
    assert helm.render({"crds": {"install": False}}).all("CustomResourceDefinition") == []
