"""What one evaluation of all rules costs, and once a minute what to keep of their last hour: CPU of one core, for 10,
100 and 1,000 queues. A part of `make bench`."""

from __future__ import annotations

import time

from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.rule_history import POINTS, STEP_S, RuleHistoryRecorder
from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertState
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.alerts.rules.figures import Figure
from dashboard.alerts.rules.metrics import METRICS
from dashboard.alerts.rules.rule import Rule, parse_rule
from dashboard.model import Counts, QueueStats, Snapshot, SourceStats
from dashboard.sampling.recent_history import History
from dashboard.store.packing import pack

RULES = 30
TICKS = 10
WARM = 70  # ticks until what breaches does not only wait, but fires


def queues(count: int, *, deep: bool) -> tuple[QueueStats, ...]:
    """So many queues that are well, or that all breach one rule."""
    return tuple(
        QueueStats(
            source="main",
            backend="bullmq",
            name=f"queue-{number:04}",
            key=f"bull:queue-{number:04}",
            counts=Counts(waiting=5, active=1, scheduled=1, dead=5, completed=8),
            depth=100_000 if deep else 5,
            latency_s=1.0,
            overdue_s=0.0,
            workers=2,
            paused=False,
            throughput_per_min=60.0,
            finished_15min=900.0,
            failed_15min=9.0,
            finished_ago_s=0.5,
        )
        for number in range(count)
    )


def rules() -> tuple[Rule, ...]:
    """Thirty rules about queues: the shipped ones, the rest on depth."""
    found = [rule for rule in default_rules() if METRICS[rule.metric].subject == "queue" and rule.enabled]
    for number in range(RULES - len(found)):
        found.append(
            parse_rule({"id": f"depth-{number}", "metric": "queue.depth", "critical": 50_000 + number}, "bench")
        )
    return tuple(found)


def cpu_ms(count: int, *, deep: bool) -> float:
    """CPU of one evaluation, in ms; `deep`: with half of the rules firing on every queue."""
    snapshot = Snapshot(
        sampled_at=0.0,
        interval_s=2.0,
        sequence=1,
        sampler="bench",
        epoch=1,
        sources=(SourceStats(name="main", address="x", reachable=True, discovered=True),),
        queues=queues(count, deep=deep),
    )
    evaluator, states, now, spent = Evaluator(2.0), dict[str, AlertState](), 1_700_000_000.0, 0.0
    wanted = rules()
    for tick in range(WARM + TICKS):
        now += 2.0
        began = time.process_time()
        transitions = evaluator.evaluate_rules(
            snapshot, History(), wanted, states, CheckerContext(now=now, channels=("ops",))
        )
        if tick >= WARM:
            spent += time.process_time() - began
        states = {
            transition.after.fingerprint: transition.after
            for transition in transitions
            if transition.after.is_worth_storing
        }
    return spent / TICKS * 1000


def minute(count: int) -> tuple[float, int]:
    """(CPU in ms of a tick that ends a minute and packs the last hour, bytes of that), with a full hour of figures."""
    keeper, wanted, now = RuleHistoryRecorder(2.0), rules(), 1_700_000_000.0
    labels = [AlertLabels(source="main", backend="bullmq", queue=f"queue-{number:04}") for number in range(count)]
    spent, size = 0.0, 0
    for tick in range(POINTS + TICKS):
        now += STEP_S
        figures: list[Figure] = [(number * 7 + tick * 13) % 1009 / 7 for number in range(count)]
        began = time.process_time()
        keeper.begin_evaluation(now)
        for rule in wanted:
            keeper.record_figures(rule, labels, figures)
        size = len(pack(keeper.export_histories()))
        if tick >= POINTS:
            spent += time.process_time() - began
    return spent / TICKS * 1000, size


def main() -> None:
    """Print the table."""
    print(f"\n{'queues':>7} {'rules':>6} {'all well':>12} {'half of them fire':>18} {'each minute':>17} {'stored':>9}")
    for count in (10, 100, 1000):
        well, bad = cpu_ms(count, deep=False), cpu_ms(count, deep=True)
        more, size = minute(count)
        print(
            f"{count:>7} {RULES:>6} {well:>9.1f} ms {bad:>15.1f} ms {more:>14.1f} ms {size / 1000:>6.0f} kB", flush=True
        )
    print("CPU of one evaluation, and what the last hour of the rules costs once a minute beside")


if __name__ == "__main__":
    main()
