"""vLLM's own server on a CPU, started in a third of the time: run by vLLM's interpreter, by path.

    .venv-vllm/bin/python -P launch_vllm.py --model … (the arguments of vllm.entrypoints.openai.api_server)

vLLM imports itself four times on a CPU, ten seconds each: in the server, in a process that only looks at the
model's class, in the engine, and in its worker. Here the class is looked at in place, and the engine is forked
(vLLM's own default elsewhere; it spawns on a CPU to set the worker's OpenMP variables, which the caller sets
before the start instead). With VLLM_ENABLE_V1_MULTIPROCESSING=0 the worker lives in the engine's process.
A vLLM that has none of these hooks starts as it always does. It imports nothing of Redoubt.
"""

import os
from typing import Any


def _look_in_place() -> None:
    from vllm.model_executor.models import registry

    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = lambda look: look()


def _fork_engine() -> None:
    from vllm.platforms.cpu import CpuPlatform

    checked = CpuPlatform.check_and_update_config

    def check_and_update_config(cls: type, config: Any) -> None:
        del cls
        checked(config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = classmethod(check_and_update_config)


def main() -> None:
    """Serve until SIGTERM."""
    _look_in_place()
    _fork_engine()
    try:
        from vllm.entrypoints.launchers.api_server.entry import main as serve
    except ImportError:
        import runpy

        runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
        return
    serve()


if __name__ == "__main__":
    main()
