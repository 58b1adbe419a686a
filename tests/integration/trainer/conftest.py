"""What the tests of the steps share: a real S3 server, a hub, and a process that ranks are forked from."""

from collections.abc import Iterator

import pytest
from tests.integration.fetching.stores import hub, keys, put, server
from tests.integration.trainer import nursery
from tests.integration.trainer.nursery import Nursery

__all__ = ["hub", "keys", "put", "ranks", "server"]


@pytest.fixture(scope="session")
def ranks() -> Iterator[Nursery]:
    with nursery.opened() as opened:
        yield opened
