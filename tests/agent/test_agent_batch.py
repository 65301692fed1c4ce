"""What changed goes at once, the rest waits for company; nothing is lost, doubled or held too long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from checkkinds import check_of, level, returning
from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.batch import Batch, Batcher
from gengfu_agent.runner import RunResult
from gengfu_agent.spool import RecordKind
from gengfu_agent.verdict import findings_of_run
from gengfu_proto.convert.report import MAX_BODY_BYTES, MAX_RUNS, decode_body, decode_shape, findings_of

FLUSH_AFTER_S = 5.0


def result_of(name: str, value: float, run: int = 0, item: str = "") -> RunResult:
    check = replace(check_of(returning()), name=name)
    return RunResult(check, findings_of_run(check, (level(value, item),), {}, 1_790_000_000 + run), 0.25)


def unpacked(batch: Batch) -> list[tuple[str, int, float]]:
    """Check, measuring time and value of every run in a batch, as a collector reads them."""
    shapes = {shape_id: decode_shape(shape) for shape_id, shape in batch.shapes.items()}
    runs = decode_body(batch.body).runs
    assert {run.shape_id for run in runs} == set(shapes)
    found = []
    for run in runs:
        (finding,) = findings_of(shapes[run.shape_id], run)
        found.append((finding.check, run.measured_at_ms, finding.metrics["level_ratio"]))
    return found


def test_the_first_run_and_every_change_go_at_once() -> None:
    batcher = Batcher(FLUSH_AFTER_S)
    kinds = []
    for i, value in enumerate((0.1, 0.2, 0.85, 0.86, 0.95, 0.1)):
        kinds.append([batch.kind for batch in batcher.add(result_of("disk", value, i), float(i))])
    change = [RecordKind.CHANGE]
    assert kinds == [change, [], change, [], change, change]


def test_another_item_is_a_change() -> None:
    batcher = Batcher(FLUSH_AFTER_S)
    assert list(batcher.add(result_of("disk", 0.1, item="/"), 0.0))
    assert not list(batcher.add(result_of("disk", 0.1, item="/"), 0.0))
    assert list(batcher.add(result_of("disk", 0.1, item="/new"), 0.0))


def test_what_waits_goes_along_with_a_change_in_order() -> None:
    batcher = Batcher(FLUSH_AFTER_S)
    for name in ("a", "b"):
        list(batcher.add(result_of(name, 0.1), 0.0))
    assert list(batcher.add(result_of("a", 0.2, 7), 1.0)) == []
    (batch,) = batcher.add(result_of("b", 0.9, 8), 2.0)
    assert unpacked(batch) == [("a", 1_790_000_007_000, 0.2), ("b", 1_790_000_008_000, 0.9)]
    assert (batch.checks, batch.measured_at_ms) == (("a", "b"), 1_790_000_008_000)


def test_measurements_wait_no_longer_than_asked_and_go_together() -> None:
    batcher = Batcher(FLUSH_AFTER_S)
    for name in ("a", "b"):
        list(batcher.add(result_of(name, 0.1), 0.0))
    assert batcher.next_flush_s() is None
    assert list(batcher.add(result_of("a", 0.2), 10.0)) == []
    assert list(batcher.add(result_of("b", 0.2), 14.0)) == []
    assert batcher.next_flush_s() == 15.0
    assert list(batcher.due(14.9)) == []
    (batch,) = batcher.due(15.0)
    assert (batch.kind, batch.checks) == (RecordKind.MEASUREMENT, ("a", "b"))
    assert list(batcher.due(99.0)) == []
    assert list(batcher.flush()) == []


def test_a_forgotten_check_is_new_again() -> None:
    batcher = Batcher(FLUSH_AFTER_S)
    for name in ("kept", "gone"):
        list(batcher.add(result_of(name, 0.1), 0.0))
    batcher.forget({"kept"})
    assert list(batcher.add(result_of("kept", 0.1), 0.0)) == []
    assert list(batcher.add(result_of("gone", 0.1), 0.0)) != []


@pytest.mark.parametrize("items", [1, 500])
def test_a_batch_never_grows_beyond_a_message(items: int) -> None:
    batcher = Batcher(1e9)
    check = check_of(returning())
    runs, batches = 0, []
    for run in range(3 * MAX_RUNS if items == 1 else 60):
        found = findings_of_run(check, tuple(level(0.1, f"{i:0200}") for i in range(items)), {}, 1.0 + run)
        batches += batcher.add(RunResult(check, found, 0.1), 0.0)
        runs += 1
    batches += batcher.flush()
    assert len(batches) > 1
    assert sum(len(decode_body(batch.body).runs) for batch in batches) == runs
    assert max(len(batch.body) for batch in batches) <= MAX_BODY_BYTES
    assert max(sum(map(len, batch.shapes.values())) for batch in batches) <= MAX_BODY_BYTES


names = st.sampled_from(["a", "b", "c"])
values = st.sampled_from([0.1, 0.2, 0.85, 0.95])
moves = st.lists(st.one_of(st.tuples(names, values), st.floats(0.1, 7.0)), max_size=40)


@given(moves)
def test_every_run_comes_out_once_in_order_and_in_time(steps: list[tuple[str, float] | float]) -> None:
    batcher, now_s, number = Batcher(FLUSH_AFTER_S), 0.0, 0
    put: dict[int, float] = {}
    came: list[int] = []
    status: dict[str, str] = {}

    def check_came(batches: list[Batch], changed: bool) -> None:
        for batch in batches:
            came.extend((at_ms - 1_790_000_000_000) // 1000 for _, at_ms, _ in unpacked(batch))
            assert batch.kind is (RecordKind.CHANGE if changed else RecordKind.MEASUREMENT)

    for step in steps:
        if isinstance(step, tuple):
            name, value = step
            number += 1
            put[number] = now_s
            judged = "critical" if value >= 0.9 else "warning" if value >= 0.8 else "ok"
            changed = status.get(name) != judged
            status[name] = judged
            batches = list(batcher.add(result_of(name, value, number), now_s))
            assert bool(batches) is changed
            check_came(batches, changed)
        else:
            due_s = batcher.next_flush_s()
            now_s = min(now_s + step, due_s) if due_s is not None else now_s + step
            check_came(list(batcher.due(now_s)), False)
        assert came == list(range(1, len(came) + 1))
        assert all(now_s - put[n] < FLUSH_AFTER_S for n in range(len(came) + 1, number + 1))
    check_came(list(batcher.flush()), False)
    assert came == list(range(1, number + 1))
