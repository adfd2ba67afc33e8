"""OpenAI's chat completion, whole or as a stream of chunks, with the `redoubt` object beside what OpenAI defines."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}  # quotes cost no model any token


def whole(model: str, created: int, text: str, cited: list[dict[str, Any]], redoubt: dict[str, Any]) -> dict[str, Any]:
    """A whole chat completion."""
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": cited}
    return {
        "id": f"chatcmpl-{redoubt['request_id']}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": NO_USAGE,
        "redoubt": redoubt,
    }


def chunks(
    model: str,
    created: int,
    pieces: Sequence[str],
    cited: list[dict[str, Any]],
    redoubt: dict[str, Any],
    *,
    include_usage: bool,
) -> Iterator[bytes]:
    """A chat completion as server-sent events; the last piece carries annotations and the `redoubt` object."""
    base: dict[str, Any] = {
        "id": f"chatcmpl-{redoubt['request_id']}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
    }

    def event(delta: dict[str, Any], finish: str | None = None, **beside: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**base, "choices": [choice], **({"usage": None} if include_usage else {}), **beside})

    yield event({"role": "assistant", "content": ""})
    for piece in pieces[:-1]:
        yield event({"content": piece})
    yield event({"content": pieces[-1], "annotations": cited}, redoubt=redoubt)
    yield event({}, "stop")
    if include_usage:
        yield _event({**base, "choices": [], "usage": NO_USAGE})
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n\n"
