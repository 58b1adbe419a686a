import json

import pytest

from slipway_serving.http.body import check_amount
from slipway_serving.http.refusal import Refusal


@pytest.mark.parametrize("field", ["max_tokens", "n"])
@pytest.mark.parametrize("value", [5000, 5000.0, "5000", " 5000 ", "5e3"])
def test_a_number_is_limited_however_it_is_written(field, value):
    """vLLM's own models read "5000" as 5000."""
    with pytest.raises(Refusal, match=field):
        check_amount(json.dumps({"prompt": "x", field: value}).encode(), 1024, 8, 400)


@pytest.mark.parametrize("value", [5, "5", None, True, "many", [], {}])
def test_the_rest_is_the_applications_to_judge(value):
    check_amount(json.dumps({"prompt": "x", "max_tokens": value}).encode(), 1024, 8, 400)
