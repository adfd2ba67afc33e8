"""Quality without a judge: ranking, refusal, quoting, lexical support and conflicts, over the real store.

    python -m tests.bench.quality [--sets scifact,musique200,clapnq,ramdocs,hospital] [--json FILE]

The sets are under `REDOUBT_DATASETS` (default `../shared/datasets`); `hospital` is the sample corpus. Prints Markdown.
`REDOUBT_BENCH_EMBEDDER` names an embedder that runs already. About three minutes with embeddings cached.
It is longer than a module should be because the tables of one report are read together.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from ir_measures import R, nDCG
from numpy.typing import NDArray
from tests.bench import servers
from tests.bench.sets import PUBLIC, Asked, Set, ask

from redoubt.gateway import cite, conflict, ground, quote
from redoubt.gateway.sentences import sentences
from redoubt.model import Candidate, Citation
from redoubt.store.catalog.connect import pool
from redoubt.store.fuse import DEFAULT_ALPHA, fuse

MEASURES = (nDCG @ 10, R @ 10)
FOLDS, SEEDS, SAMPLES = 10, 5, 2000
TOP_K, QUOTES = 8, 4  # the gateway's defaults
_NUMBER = re.compile(r"\d+")
_VERB = re.compile(r"\b(is|are|was|were|can|will|has|have) (?!not)")

Array = NDArray[np.float64]
Ranking = Callable[[Sequence[Candidate]], list[tuple[Candidate, float]]]
Rows = list[list[str]]


# Ranking -------------------------------------------------------------------------------------------


def leg(name: str) -> Ranking:
    """One leg alone: only what it scored."""
    return lambda found: sorted(
        ((c, float(getattr(c, name))) for c in found if getattr(c, name) is not None),
        key=lambda pair: (-pair[1], str(pair[0].document_id)),
    )


def relative(found: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
    """The baseline of the binding figures: min-max of each leg's own 100, α = 0.5."""
    total = dict.fromkeys(range(len(found)), 0.0)
    for name in ("cosine", "bm25"):
        best = sorted(((getattr(c, name) or 0.0, at) for at, c in enumerate(found)), reverse=True)[:100]
        best = [(score, at) for score, at in best if name == "cosine" or score > 0]
        if best and best[0][0] > best[-1][0]:
            low, high = best[-1][0], best[0][0]
            for score, at in best:
                total[at] += 0.5 * (score - low) / (high - low)
    return sorted(((found[at], score) for at, score in total.items()), key=lambda p: (-p[1], str(p[0].document_id)))


def per_question(of: Set, ranking: Ranking) -> dict[str, Array]:
    """Each measure's value a question, in a fixed order; a document's rank is its best passage's."""
    judged = [asked for asked in of.asked if asked.question.relevant]
    qrels = [ir_measures.Qrel(a.question.key, key, grade) for a in judged for key, grade in a.question.relevant.items()]
    run = []
    for asked in judged:
        seen: set[str] = set()
        for candidate, _ in ranking(asked.found.candidates):
            key = of.documents[candidate.document_id].key
            if key not in seen:
                seen.add(key)
                run.append(ir_measures.ScoredDoc(asked.question.key, key, -float(len(seen))))
            if len(seen) == 100:
                break
    values: dict[str, dict[str, float]] = {str(m): {a.question.key: 0.0 for a in judged} for m in MEASURES}
    for metric in ir_measures.iter_calc(MEASURES, qrels, run):
        values[str(metric.measure)][metric.query_id] = metric.value
    return {name: np.array(list(found.values())) for name, found in values.items()}


def interval(difference: Array) -> tuple[float, float]:
    """95 % of the mean difference of pairs, by bootstrap."""
    drawn = np.random.default_rng(0).integers(0, len(difference), (SAMPLES, len(difference)))
    low, high = np.percentile(difference[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)


def ranked(sets: Sequence[Set]) -> tuple[Rows, dict[str, Any]]:
    """nDCG@10 (recall@10) by leg and fusion, and what the shipped fusion gains over min-max."""
    rows, data = [], {}
    for of in sets:
        runs = {
            "dense": per_question(of, leg("cosine")),
            "bm25": per_question(of, leg("bm25")),
            "relative": per_question(of, relative),
            **{f"hybrid@{alpha}": per_question(of, _shipped(alpha)) for alpha in (0.3, 0.5, 0.7)},
        }
        means = {name: {m: float(v.mean()) for m, v in run.items()} for name, run in runs.items()}
        gain = runs[f"hybrid@{DEFAULT_ALPHA}"]["nDCG@10"] - runs["relative"]["nDCG@10"]
        low, high = interval(gain)
        data[of.name] = means | {"gain": {"mean": float(gain.mean()), "low": low, "high": high}}
        cells = [f"{m['nDCG@10']:.3f} ({m['R@10']:.3f})" for m in means.values()]
        rows.append([of.name, *cells, f"{gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]"])
    return rows, data


def _shipped(alpha: float) -> Ranking:
    return lambda found: fuse(found, alpha)


# Refusal -------------------------------------------------------------------------------------------


def fit(signals: Array, answerable: Array, penalty: float = 2.0) -> Array:
    """A logistic regression, standardized inside; weights: float64 (1 + signals,), the bias first."""
    mean, spread = signals.mean(0), signals.std(0) + 1e-9
    design = np.c_[np.ones(len(signals)), (signals - mean) / spread]
    ridge = penalty * np.eye(design.shape[1])
    ridge[0, 0] = 1e-9
    weights = np.zeros(design.shape[1])
    for _ in range(50):  # Newton's method
        likely = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (likely - answerable) + ridge @ weights
        curvature = (design.T * (likely * (1 - likely))) @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return np.r_[weights[0] - (weights[1:] * mean / spread).sum(), weights[1:] / spread]


def predict(weights: Array, signals: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-(weights[0] + signals @ weights[1:])))
    return found


def auc(answerable: Array, confidence: Array) -> float:
    """How often an answerable question gets more confidence than an unanswerable one."""
    yes, no = confidence[answerable == 1], confidence[answerable == 0]
    return float(((yes[:, None] > no).mean() + (yes[:, None] >= no).mean()) / 2)


def refusal_f1(answerable: Array, refused: NDArray[np.bool_]) -> float:
    right = float(((answerable == 0) & refused).sum())
    return 2 * right / max(1.0, float((answerable == 0).sum() + refused.sum()))


def crossed(signals: Array, answerable: Array) -> tuple[float, float]:
    """AUC and refusal F1 at 0.5 of a regression fitted on nine tenths, judged on the tenth; mean of several splits."""
    found = []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(answerable))
        confidence = np.zeros(len(answerable))
        for fold in range(FOLDS):
            held = order[fold::FOLDS]
            rest = np.setdiff1d(order, held)
            confidence[held] = predict(fit(signals[rest], answerable[rest]), signals[held])
        found.append((auc(answerable, confidence), refusal_f1(answerable, confidence < 0.5)))
    mean = np.mean(found, 0)
    return float(mean[0]), float(mean[1])


def refused(sets: dict[str, Set]) -> tuple[Rows, dict[str, Any]]:
    """Cross-validated quality of the signals, and of the shipped coefficients at the shipped threshold."""
    conditions = []
    if clapnq := sets.get("clapnq"):
        keys = {a.question.facts.get("passage") for a in clapnq.asked if not a.question.facts["answerable"]}
        gone = frozenset(d.id for d in clapnq.documents.values() if d.key in keys)
        conditions += [("clapnq, passages present", clapnq, frozenset()), ("clapnq, passages removed", clapnq, gone)]
    if sample := sets.get("hospital"):
        conditions.append(("hospital", sample, frozenset()))
    rows, data, kept = [], {}, []
    for name, of, without in conditions:
        found = [
            ground.decide(a.question.text, of.hits(a, DEFAULT_ALPHA, without=without), ground.DEFAULT_THRESHOLD)
            for a in of.asked
        ]
        names = [key for key in ground.COEFFICIENTS if key != "bias"]
        signals = np.array([[verdict.signals.get(key, 0.0) for key in names] for verdict in found])
        answerable = np.array([a.question.facts["answerable"] for a in of.asked], float)
        confidence = np.array([verdict.confidence for verdict in found])
        says_no = np.array([not verdict.answerable for verdict in found])
        cross = crossed(signals, answerable)
        shipped = {
            "auc": auc(answerable, confidence),
            "f1": refusal_f1(answerable, says_no),
            "answered": float((~says_no)[answerable == 1].mean()),
            "refused": float(says_no[answerable == 0].mean()),
        }
        data[name] = {"crossed": {"auc": cross[0], "f1": cross[1]}, "shipped": shipped}
        rows.append([name, *(f"{v:.3f}" for v in (*cross, *shipped.values()))])
        if name.startswith("clapnq"):
            kept.append((signals, answerable))
    if kept:
        weights = fit(np.concatenate([s for s, _ in kept]), np.concatenate([a for _, a in kept]))
        data["fitted on clapnq"] = dict(zip(["bias", *names], (round(float(w), 2) for w in weights), strict=True))
    return rows, data


# Quoting and support --------------------------------------------------------------------------------


def quoted(clapnq: Set) -> tuple[Rows, dict[str, Any]]:
    """Sentences quoted of the gold passage against those that annotators selected, a mean over questions."""
    texts = {document.key: document for document in clapnq.documents.values()}
    found: dict[str, list[tuple[float, float, float]]] = {"whole passage": [], "first sentence": [], "adaptive cut": []}
    for asked in clapnq.asked:
        facts = asked.question.facts
        if not facts["answerable"]:
            continue
        document = texts[facts["passage"]]
        parts = sentences(document.text)
        selected = [_plain(text) for text in facts["selected_sentences"]]
        own = [_plain(document.text[part.start : part.end]) for part in parts]
        right = np.array([any(o and (o in s or s in o) for s in selected) for o in own])
        if not right.any():
            continue
        spans = quote.cut(asked.question.text, document.text, frozenset((document.title,)))
        cut = np.array([any(s.start <= part.start and part.end <= s.end for s in spans) for part in parts])
        chosen = {"whole passage": np.ones(len(parts), bool), "first sentence": np.arange(len(parts)) == 0,
                  "adaptive cut": cut}  # fmt: skip
        for name, one in chosen.items():
            both = float((one & right).sum())
            precision, recall = both / max(1, one.sum()), both / right.sum()
            found[name].append((precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0))
    data = {name: [float(v) for v in np.mean(each, 0)] for name, each in found.items()}
    return [[name, *(f"{v:.3f}" for v in each)] for name, each in data.items()], data


def _plain(text: str) -> str:
    return re.sub(r"\W+", "", text.lower())


def shown(sample: Set) -> tuple[Rows, dict[str, Any]]:
    """What the gateway would quote for the sample corpus' answerable questions."""
    documents, gold, right, lengths = [], [], [], []
    for asked in sample.asked:
        facts = asked.question.facts
        if not facts["answerable"]:
            continue
        quotes = quote.select(asked.question.text, sample.hits(asked, DEFAULT_ALPHA)[:TOP_K], QUOTES)
        paths = {q.hit.path for q in quotes}
        documents.append(len(paths & asked.question.relevant.keys()) / len(asked.question.relevant))
        right.append(np.mean([q.hit.path in asked.question.relevant for q in quotes]))
        said = [_plain(q.text) for q in quotes]
        gold.append(np.mean([any(_plain(r["quote"]) in text for text in said) for r in facts["relevant"]]))
        lengths.append(sum(len(q.text) for q in quotes))
    data = {
        "relevant documents quoted": float(np.mean(documents)),
        "quotes of relevant documents": float(np.mean(right)),
        "gold sentences quoted": float(np.mean(gold)),
        "characters": float(np.mean(lengths)),
    }
    return [[f"{v:.0f}" if k == "characters" else f"{v:.3f}" for k, v in data.items()]], data


def supported(clapnq: Set) -> tuple[Rows, dict[str, Any]]:
    """Sentences of written answers against their own passage, against another, and with a number changed."""
    texts = {document.key: document.text for document in clapnq.documents.values()}
    answers = [a.question.facts for a in clapnq.asked if a.question.facts["answerable"]]
    counts = {"their own passage": [0, 0], "the next question's passage": [0, 0], "own, one number changed": [0, 0],
              "own, a \"not\" put in": [0, 0]}  # fmt: skip
    for at, facts in enumerate(answers):
        own, next_ = texts[facts["passage"]], texts[answers[(at + 1) % len(answers)]["passage"]]
        for span in sentences(facts["answer"]):
            sentence = facts["answer"][span.start : span.end]
            trials = [("their own passage", sentence, own), ("the next question's passage", sentence, next_)]
            if number := _NUMBER.search(sentence):
                changed = f"{sentence[: number.start()]}{int(number.group()) + 1}{sentence[number.end() :]}"
                trials.append(("own, one number changed", changed, own))
            if _VERB.search(sentence):
                trials.append(('own, a "not" put in', _VERB.sub(r"\1 not ", sentence, count=1), own))
            for name, claim, passage in trials:
                counts[name][0] += cite.check(claim, passage).supported
                counts[name][1] += 1
    data = {name: {"supported": yes / max(1, of), "of": of} for name, (yes, of) in counts.items()}
    return [[name, f"{each['supported']:.3f}", str(each["of"])] for name, each in data.items()], data


# Conflicts -----------------------------------------------------------------------------------------


def citations(of: Set, asked: Asked) -> list[Citation]:
    """What the gateway would cite."""
    quotes = quote.select(asked.question.text, of.hits(asked, DEFAULT_ALPHA)[:TOP_K], QUOTES)
    return [
        Citation(
            number, q.hit.document_id, 1, q.hit.source, q.hit.path, q.hit.title, q.text, q.span, None,
            q.hit.chunk.heading, q.hit.as_of, q.hit.score,
        )
        for number, q in enumerate(quotes, 1)
    ]  # fmt: skip


def disagreeing(sets: dict[str, Set]) -> tuple[Rows, dict[str, Any]]:
    """Questions with a conflict, by whether there is one among what was cited."""
    counts: dict[str, list[int]] = {}
    for of in sets.values():
        for asked in of.asked:
            facts, cited = asked.question.facts, citations(of, asked)
            if of.name == "hospital":
                if not facts["answerable"]:
                    continue
                kind = facts["kind"]
                group = f"hospital: {kind}" if kind in ("conflict", "superseded") else "hospital: all others"
            elif of.name == "ramdocs":
                said = {d["id"]: d for d in facts["documents"]}
                answers = {
                    said[c.path]["answer"] for c in cited if said.get(c.path, {}).get("type") in ("correct", "misinfo")
                }
                group = "ramdocs: cited documents differ" if len(answers) > 1 else "ramdocs: they do not"
            else:
                group = f"{of.name}: none expected"
            count = counts.setdefault(group, [0, 0])
            count[0] += bool(conflict.find(asked.question.text, cited))
            count[1] += 1
    data = {name: {"found": found, "of": of_} for name, (found, of_) in counts.items()}
    return [[name, str(found), str(of_)] for name, (found, of_) in counts.items()], data


# The report ------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(sets: dict[str, Set]) -> tuple[str, dict[str, Any]]:
    """Markdown, and the same as data."""
    data: dict[str, Any] = {}
    parts = []

    def section(name: str, head: Sequence[str], made: tuple[Rows, dict[str, Any]]) -> None:
        rows, data[name] = made
        parts.append(f"### {name}\n\n{table(head, rows)}")

    section("Ranking, nDCG@10 (recall@10)",
            ["set", "dense", "BM25", "min-max, α .5", "hybrid, α .3", "hybrid, α .5", "hybrid, α .7",
             "hybrid − min-max at α .5, nDCG"], ranked(list(sets.values())))  # fmt: skip
    if {"clapnq", "hospital"} & sets.keys():
        section("Refusal", ["set", "AUC, ten-fold", "F1, ten-fold", "AUC, shipped", "F1, shipped",
                            "answerable answered", "unanswerable refused"], refused(sets))  # fmt: skip
    if "clapnq" in sets:
        section("Quoting, CLAPNQ's selected sentences", ["quoted", "precision", "recall", "F1"], quoted(sets["clapnq"]))
        section("Lexical support, CLAPNQ's written answers", ["against", "supported", "sentences"],
                supported(sets["clapnq"]))  # fmt: skip
    if "hospital" in sets:
        made = shown(sets["hospital"])
        section("Quoting, sample corpus", list(made[1]), made)
    section("Conflicts shown", ["questions", "with a conflict", "of"], disagreeing(sets))
    return "\n\n".join(parts), data


async def gather(names: Sequence[str]) -> dict[str, Set]:
    async with servers.database() as dsn, pool(dsn, service="bench") as connections:
        return {name: await ask(connections, name) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join((*PUBLIC, "hospital")))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    text, data = report(asyncio.run(gather(arguments.sets.split(","))))
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(data, indent=1, default=float, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
