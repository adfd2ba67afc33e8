"""The embedder: one vLLM instance behind OpenAI's `/v1/embeddings`, on a TCP port or a unix socket."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import numpy as np

from redoubt.errors import EmbedderDown, Environment, InputError
from redoubt.model import Vectors

FIX = "see `redoubt status`"
_MODEL_FILES = {".safetensors", ".json", ".txt", ".model"}  # weights, tokenizer, configuration; no prose beside them


def digest(model: Path) -> str:
    """Identify a model: "sha256:…" over the names and bytes of its directory's files; reads all of them."""
    found = sorted(path for path in model.rglob("*") if path.suffix in _MODEL_FILES and path.is_file())
    if not any(path.suffix == ".safetensors" for path in found):
        raise Environment(f"there is no model in {model}", why="it holds no .safetensors", fix="see `embedder.path`")
    whole = hashlib.sha256()
    for path in found:
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{part}  {path.relative_to(model).as_posix()}\n".encode())
    return f"sha256:{whole.hexdigest()}"


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
        vectors, _ = await self.embed_counted(texts, truncate=True)
        return vectors

    async def embed_counted(self, texts: Sequence[str], *, truncate: bool) -> tuple[Vectors, int]:
        """Vectors as `embed` gives them, and how many tokens were read; too long is an `InputError`."""
        body: dict[str, Any] = {"model": self.model, "input": list(texts), "encoding_format": "float"}
        answer = await self._post(body | ({"truncate_prompt_tokens": -1} if truncate else {}))
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
            tokens = int(answer.get("usage", {}).get("prompt_tokens", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _garbage("it is not in the form of OpenAI's embeddings") from error
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise _garbage("it has not one vector a text")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not (norms > 0).all():
            raise _garbage("a vector is not finite, or zero")
        normal: Vectors = vectors / norms
        return normal, tokens

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self._session is not None, "the embedder must be entered first"
        try:
            async with self._session.post(f"{self._base}/v1/embeddings", json=body) as response:
                if response.status >= 500:
                    raise EmbedderDown("the embedder fails", why=f"HTTP {response.status}", fix=FIX, kind="5xx")
                if response.status >= 400:
                    raise InputError("the embedder refused the request", why=await _reason(response))
                found = await response.json()
        except TimeoutError as error:
            raise EmbedderDown(
                "the embedder does not answer in time", why=f"waited {self._timeout_s:g} s", fix=FIX, kind="timeout"
            ) from error
        except (ValueError, aiohttp.ContentTypeError) as error:
            raise _garbage("it is not JSON") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EmbedderDown("the embedder does not answer", why=type(error).__name__, fix=FIX) from error
        if not isinstance(found, dict):
            raise _garbage("it is not a JSON object")
        return found


async def _reason(response: aiohttp.ClientResponse) -> str:
    """The server's own words, for the caller whose text it was; they are not logged."""
    try:
        return str((await response.json())["error"]["message"])[:300]
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        return f"HTTP {response.status}"


def _garbage(why: str) -> EmbedderDown:
    return EmbedderDown("the embedder's answer is no embedding", why=why, fix=FIX, kind="garbage")
