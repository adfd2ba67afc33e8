"""Every measurement, one after the other, into `docs/benchmarks.md`: `make bench`, or some by name.

    python -m tests.bench [quality search ingest freshness]

What is not named keeps its section from the run before.
"""

import json
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path("docs/benchmarks.md")
RESULTS = Path(".cache/bench")
PARTS = {
    "quality": "Retrieval, refusal, quoting and conflicts",
    "search": "Search at 100,000 passages",
    "ingest": "Ingest",
    "freshness": "Freshness",
}
INTRODUCTION = """# Benchmarks

Each figure comes from the command above it, all of them from `make bench`. Machines differ and this one is shared:
trust ratios within a run more than seconds between runs. The public sets are not part of the repository;
`REDOUBT_DATASETS` names the folder that holds them in the BEIR layout.
"""


def machine() -> str:
    """Processor, cores, memory, kernel."""
    info = Path("/proc/cpuinfo").read_text("ascii", "replace")
    name = re.search(r"model name\s*: (.*)", info)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text("ascii"))
    cores = len(re.findall(r"^processor", info, re.MULTILINE))
    gigabytes = int(memory[1]) / 1e6 if memory else 0
    return f"{name[1] if name else platform.processor()}, {cores} cores, {gigabytes:.0f} GB, no GPU"


def sections() -> dict[str, str]:
    """The page's sections as they stand, by part."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    found = re.findall(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", text, re.DOTALL)
    return dict(found)


def measure(part: str) -> str:
    """Run one part in a process of its own."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"tests.bench.{part}", "--json", str(RESULTS / f"{part}.json")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    json.loads((RESULTS / f"{part}.json").read_text("utf-8"))
    today = datetime.now(UTC).date().isoformat()
    return f"## {PARTS[part]}\n\n`python -m tests.bench.{part}`, {today}, {machine()}.\n\n{done.stdout.strip()}\n"


def run(wanted: list[str]) -> None:
    kept = sections()
    for part in wanted:
        print(f"· measuring {part}", file=sys.stderr, flush=True)
        kept[part] = measure(part)
        body = "".join(f"\n<!-- {name} -->\n{kept[name]}<!-- /{name} -->\n" for name in PARTS if name in kept)
        PAGE.write_text(INTRODUCTION + body, "utf-8")


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in PARTS]
    if unknown:
        sys.exit(f"there is no measurement {unknown[0]!r}; these are: {', '.join(PARTS)}")
    run(sys.argv[1:] or list(PARTS))
