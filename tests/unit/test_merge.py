"""Which segments are merged when."""

from redoubt.store.pgvector.merge import FAN, plan


def test_nothing_to_do() -> None:
    assert plan([], 0) is None
    assert plan([(1, 0, 10)], 10) is None
    assert plan([(1, 5, 1000), (2, 1, 10)], 1010) is None


def test_recent_writes_become_one_segment() -> None:
    assert plan([(1, 3, 900), (7, 0, 10), (9, 0, 4)], 914) == ([7, 9], 1, None)


def test_a_full_level_moves_up() -> None:
    full = [(number, 1, 10) for number in range(FAN)]
    assert plan([(99, 2, 80), *full], 160) == (list(range(FAN)), 2, None)
    assert plan([(99, 2, 80), *full[1:]], 150) is None


def test_garbage_is_merged_away() -> None:
    assert plan([(1, 2, 5000), (2, 1, 5000)], 4000) == ([1, 2], 2, 4000)
    assert plan([(1, 2, 5000)], 10) is None, "merging one again and again would be endless"


def test_every_plan_ends() -> None:
    segments = [(number, 0, 5) for number in range(100)]
    steps = 0
    while found := plan(segments, 10):
        taken, level, chunks = found
        held = sum(held for number, _, held in segments if number in taken) if chunks is None else chunks
        segments = [one for one in segments if one[0] not in taken] + [(1000 + steps, level, held)]
        steps += 1
        assert steps < 100
    assert len(segments) == 1
