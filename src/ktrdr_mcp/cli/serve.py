"""`serve`: the server over HTTP in the foreground."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.paths import Workspace

if TYPE_CHECKING:
    from ktrdr_mcp.daemon.executors import ExecutorName

MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_BYTES = 4096


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the bearer token to ask for; needed for any address but the loopback.",
)
@click.option(
    "--read-token-file",
    type=click.Path(path_type=Path),
    help="File with a second token, which may read everything and change nothing.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME[:PORT]",
    help="Another name that requests may be addressed to; repeatable.",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Another origin whose requests are let in, where a reverse proxy or an extension passes "
    "them on; pages of other origins cannot read replies in a browser. Repeatable.",
)
@click.option(
    "--log-json",
    is_flag=True,
    envvar="KTRDR_LOG_JSON",
    help="Write each line of the log as a JSON object, and one for each request.",
)
@click.option(
    "--executor",
    type=click.Choice(["processes", "threads", "ray"]),
    envvar="KTRDR_EXECUTOR",
    help="Where trainings run: in one process for each core, in threads of the server, or on a "
    "Ray cluster.",
)
@click.option(
    "--ray-address",
    envvar="KTRDR_RAY_ADDRESS",
    metavar="HOST:PORT",
    help="The cluster of --executor ray; 'local' is one that the server starts and ends itself.",
)
@click.option(
    "--store",
    envvar="KTRDR_STORE",
    metavar="PATH",
    help="A folder that all machines of the cluster share, for checkpoints; none is needed.",
)
@click.pass_obj
def serve(  # noqa: PLR0913 (one for each option)
    workspace: Workspace,
    host: str,
    port: int,
    token_file: Path | None,
    read_token_file: Path | None,
    allow_hosts: tuple[str, ...],
    allow_origins: tuple[str, ...],
    log_json: bool,
    executor: ExecutorName | None,
    ray_address: str | None,
    store: str | None,
) -> None:
    """Serve HTTP, and MCP at /mcp, until Ctrl-C or SIGTERM."""
    from ktrdr_mcp.api.http.guard import make_rules
    from ktrdr_mcp.api.logs import write_json_lines
    from ktrdr_mcp.daemon.executors import place_of
    from ktrdr_mcp.daemon.stdio import serve_http

    token = None if token_file is None else read_token(token_file)
    reader = None if read_token_file is None else read_token(read_token_file)
    rules = make_rules(token, allow_hosts, allow_origins, reader)
    place = None if executor is None else place_of(executor, ray_address, store)
    if log_json:
        write_json_lines([each for each in (token, reader) if each is not None])
    anyio.run(partial(serve_http, workspace, host, port, rules, place))


def read_token(path: Path) -> str:
    """The token in a file, without surrounding white space.

    Args:
        path: the file.
    Raises:
        InvalidRequest: it cannot be read, or its content is no token.
    """
    try:
        with path.open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The token file cannot be read: {getattr(error, 'strerror', None) or 'not ASCII'}.",
            hint="Name a file that holds one line of ASCII text.",
        ) from error
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
        raise InvalidRequest(
            f"The token file must hold one word of at least {MIN_TOKEN_CHARACTERS} characters.",
            hint="Make one, for example with: openssl rand -hex 32",
        )
    return token
