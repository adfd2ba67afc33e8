"""The sample corpus keeps its own promises: counts, judgements that exist, dates, access rules."""

import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "samples" / "hospital"


def test_the_sample_corpus_is_what_it_says() -> None:
    done = subprocess.run([sys.executable, "check.py"], cwd=SAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
