"""What the tests of fetching share: a real S3 server and a hub."""

from tests.integration.fetching.stores import hub, keys, put, server

__all__ = ["hub", "keys", "put", "server"]
