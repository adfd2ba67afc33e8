"""The gateway as its clients see it: questions, searches, readiness, over HTTP like anybody else."""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from redoubt.errors import AuthError, GatewayDown, InputError, NotFound, RedoubtError, Unavailable

_FIX = "see `redoubt status`; a stopped site starts with `redoubt up`"
_ERRORS: dict[int, type[RedoubtError]] = {401: AuthError, 404: NotFound, 503: Unavailable}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its text with `[n]` markers, and the `redoubt` object as it came."""

    text: str
    redoubt: dict[str, Any]

    @property
    def refused(self) -> bool:
        """Whether nothing that may be read supported an answer."""
        return bool(self.redoubt.get("outcome") == "refused")


class Gateway:
    """One gateway and one key; entered once."""

    def __init__(self, url: str, key: str | None, *, ca_file: Path | None = None, timeout_s: float = 60.0) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        secure: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            secure = ssl.create_default_context(cafile=self._ca_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=secure),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(self._timeout_s),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, question: str, model: str, on_text: Callable[[str], None] | None = None) -> Reply:
        """The answer; with `on_text` it is streamed, each piece but the last (the list of sources) given to it."""
        body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": on_text is not None}
        async with self._call("POST", "/v1/chat/completions", body) as response:
            if on_text is None:
                whole = await response.json()
                return Reply(whole["choices"][0]["message"]["content"], whole["redoubt"])
            return await _streamed(response, on_text)

    async def search(self, query: str, index: str, top_k: int = 10) -> list[dict[str, Any]]:
        """The best passages, best first."""
        async with self._call("POST", "/v1/search", {"query": query, "index": index, "top_k": top_k}) as response:
            hits: list[dict[str, Any]] = (await response.json())["hits"]
            return hits

    async def ready(self) -> dict[str, str]:
        """Each part of the site with "up" or what is wrong with it; `GatewayDown` if the gateway does not answer."""
        async with self._call("GET", "/health/ready", None, accept=(200, 503)) as response:
            parts: dict[str, str] = (await response.json())["parts"]
            return parts

    @asynccontextmanager
    async def _call(
        self, method: str, path: str, body: Any, accept: tuple[int, ...] = (200,)
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "the gateway must be entered first"
        try:
            async with self._session.request(method, self._url + path, json=body) as response:
                if response.status not in accept:
                    raise await _failure(response)
                yield response
        except TimeoutError as error:
            raise GatewayDown(
                "the gateway does not answer in time", why=f"waited {self._timeout_s:g} s", fix=_FIX, kind="timeout"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise GatewayDown(
                f"the gateway at {self._url} does not answer", why=type(error).__name__, fix=_FIX
            ) from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise GatewayDown(
                f"what answers at {self._url} is not a Redoubt gateway",
                why="its answer has another form",
                kind="garbage",
            ) from error


async def _failure(response: aiohttp.ClientResponse) -> RedoubtError:
    try:
        message = str((await response.json())["error"]["message"])
    except (ValueError, KeyError, TypeError, aiohttp.ClientError):
        return GatewayDown("the gateway failed", why=f"HTTP {response.status}", fix=_FIX, kind="5xx")
    kind = _ERRORS.get(response.status) or (InputError if response.status < 500 else RedoubtError)
    return kind(message)


async def _streamed(response: aiohttp.ClientResponse, on_text: Callable[[str], None]) -> Reply:
    pieces: list[str] = []
    async for event in _events(response):
        delta = event["choices"][0]["delta"] if event.get("choices") else {}
        pieces.append(delta.get("content") or "")
        if "redoubt" in event:
            return Reply("".join(pieces), event["redoubt"])
        if pieces[-1]:
            on_text(pieces[-1])
    raise GatewayDown("the answer ended before it was whole", why="the gateway closed the stream", fix=_FIX)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Server-sent events; lines of any length, unlike aiohttp's own reader of lines."""
    pending = b""
    async for part in response.content.iter_any():
        *lines, pending = (pending + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                yield json.loads(line.removeprefix(b"data: "))
