"""The embedder: one vLLM instance behind OpenAI's `/v1/embeddings`, on a TCP port or a unix socket."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import numpy as np

from redoubt.errors import EmbedderDown, InputError
from redoubt.model import Vectors

FIX = "see `redoubt status`"


class Embedder:
    """Texts in, normalised vectors out; entered once, used by many."""

    def __init__(self, url: str, model: str, *, api_key: str | None = None, timeout_s: float = 10.0) -> None:
        self.model = model
        self._socket = url.removeprefix("unix://") if url.startswith("unix://") else None
        self._base = "http://embedder" if self._socket else url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._socket) if self._socket else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(
            connector=connector, headers=self._headers, timeout=aiohttp.ClientTimeout(self._timeout_s)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors: float32 (len(texts), dim), L2-normalised; what is too long for the model is cut at its end.

        `EmbedderDown` if it does not answer, or answers with something that is no embedding.
        """
        if not texts:
            return np.zeros((0, 0), np.float32)
        answer = await self._post({"model": self.model, "input": list(texts), "truncate_prompt_tokens": -1})
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise _garbage("it is not in the form of OpenAI's embeddings") from error
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise _garbage("it has not one vector a text")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not (norms > 0).all():
            raise _garbage("a vector is not finite, or zero")
        normal: Vectors = vectors / norms
        return normal

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self._session is not None, "the embedder must be entered first"
        try:
            async with self._session.post(f"{self._base}/v1/embeddings", json=body) as response:
                if response.status >= 500:
                    raise EmbedderDown("the embedder fails", why=f"HTTP {response.status}", fix=FIX, kind="5xx")
                if response.status >= 400:
                    raise InputError("the embedder refused the request", why=f"HTTP {response.status}")
                found = await response.json()
        except TimeoutError as error:
            raise EmbedderDown(
                "the embedder does not answer in time", why=f"waited {self._timeout_s:g} s", fix=FIX, kind="timeout"
            ) from error
        except ValueError as error:
            raise _garbage("it is not JSON") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EmbedderDown("the embedder does not answer", why=type(error).__name__, fix=FIX) from error
        if not isinstance(found, dict):
            raise _garbage("it is not a JSON object")
        return found


def _garbage(why: str) -> EmbedderDown:
    return EmbedderDown("the embedder's answer is no embedding", why=why, fix=FIX, kind="garbage")
