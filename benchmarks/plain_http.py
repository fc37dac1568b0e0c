"""An HTTP client that costs next to nothing, so that a burst of requests measures the server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class PlainHttp:
    """GET requests on as many connections as there are requests at once.

    httpx, with hundreds of connections, takes longer than the server: what handing out one of them
    costs grows with their number.

    Args:
        url: of the server, without a path.
        token: the bearer token.
    """

    url: str
    token: str
    _idle: list[Line] = field(default_factory=list)

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path. Raises RuntimeError if the server refused."""
        reader, writer = line = self._idle.pop() if self._idle else await self._connected()
        head = f"GET {path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\n"
        writer.write(f"{head}Authorization: Bearer {self.token}\r\n\r\n".encode())
        status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in headers if line)
        body = await reader.readexactly(int(fields[b"content-length"]))
        self._idle.append(line)
        if status.split()[1] != b"200":
            raise RuntimeError(f"refused: {body.decode()}")
        return dict(json.loads(body))

    async def _connected(self) -> Line:
        """A new connection."""
        place = urlsplit(self.url)
        return await asyncio.open_connection(place.hostname, place.port)

    def close(self) -> None:
        """Closes every connection that no request uses."""
        for _, writer in self._idle:
            writer.close()
