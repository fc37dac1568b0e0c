"""A server on standard input and output whose server is noisy and broken."""

from __future__ import annotations

import logging
import os

from ktrdr_mcp.api.logs import configure_logging
from ktrdr_mcp.api.mcp.server import build_server
from ktrdr_mcp.schemas import requests, responses
from tests.support.fake_service import FakeService


class NoisyService(FakeService):
    """Prints, logs and crashes, as a library below a training might."""

    async def list_training_tasks(self, request: requests.ListTasks) -> responses.TaskList:
        print("noise from Python")  # noqa: T201
        os.system("echo noise from a child process")  # noqa: ASYNC221
        logging.getLogger("some.library").warning("noise in the log")
        reply: responses.TaskList = self.answer("list_training_tasks", request)
        return reply

    async def list_trained_models(self, request: requests.ListModels) -> responses.ModelList:
        raise RuntimeError("a defect below")


if __name__ == "__main__":
    configure_logging()
    build_server(NoisyService()).run("stdio")
