"""The server of the tests of the service."""

from tests.service.conftest import bench

__all__ = ["bench"]
