"""What an error of a library means for a stage."""

import pytest

from slipway_trainer.training import failures


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("Broken pipe"), False),
    ],
)
def test_a_lost_peer_is_told_from_a_fault_of_ones_own(error: Exception, lost: bool) -> None:
    assert failures.is_lost_peer(error) is lost
