"""The rules that apply without settings. Pure."""

from __future__ import annotations

import msgspec

from .rule import Rule

MIB = 1024.0 * 1024.0
LATE_INTERVALS = 3  # a checker without an evaluation for this many intervals is late

# In the order of the page; those marked `enabled=False` are disabled.
_RULES = (
    Rule(id="redis-unreachable", metric="redis.unreachable_s", name="Redis is not responding", op="ge", critical=30,
         for_s=0, recover_for_s=10, group_wait_s=0),
    Rule(id="redis-writes-refused", metric="redis.writes_refused", name="Redis is refusing writes", op="ge",
         critical=1, for_s=30),
    Rule(id="redis-memory", metric="redis.memory_ratio", name="Redis memory is high", op="ge", warning=0.75,
         critical=0.90, warning_recover=0.72, critical_recover=0.87),
    Rule(id="redis-memory-full", metric="redis.memory_full_in_s", name="Redis will run out of memory", op="lt",
         warning=21_600, critical=3600, warning_recover=25_200, critical_recover=5400),
    Rule(id="redis-evictions", metric="redis.evicted_per_min", name="Redis is evicting keys", critical=0),
    Rule(id="redis-eviction-policy", metric="redis.eviction_policy", name="Redis may evict jobs", op="ge",
         warning=1),
    Rule(id="redis-rejected", metric="redis.rejected_per_min", name="Redis is rejecting connections", critical=0),
    Rule(id="redis-clients", metric="redis.clients_ratio", name="Redis is near its connection limit", op="ge",
         warning=0.8, critical=0.95),
    Rule(id="redis-fragmentation", metric="redis.fragmentation_ratio", name="Redis memory is fragmented", op="ge",
         warning=1.5, for_s=1800),
    Rule(id="redis-replica-lag", metric="redis.replica_lag_bytes", name="Replica is lagging", warning=64 * MIB),
    Rule(id="redis-replica-link", metric="redis.replica_link_down_s", name="Replication is interrupted",
         critical=60),
    Rule(id="redis-sentinels", metric="redis.sentinels_silent", name="Redis failovers are not noticed", op="ge",
         warning=1, for_s=120),
    Rule(id="redis-persistence", metric="redis.persistence_failed", name="Redis persistence is failing", op="ge",
         critical=1),
    Rule(id="no-data", metric="source.no_data_s", name="Queues are unreadable", warning=300, for_s=0),
    Rule(id="queue-no-consumers", metric="queue.consumers", name="Queue has no workers", op="lt", critical=1,
         for_s=120),
    Rule(id="workers-gone", metric="workers.count", name="No workers are running", op="lt", critical=1, for_s=120,
         inhibited_by=("queue-no-consumers",)),
    Rule(id="queue-latency", metric="queue.latency_s", name="Jobs are waiting too long", warning=300, critical=1800,
         for_s=120),
    Rule(id="queue-no-progress", metric="queue.no_progress_s", name="Queue is stuck", critical=900),
    Rule(id="queue-errors", metric="queue.error_ratio", name="Too many jobs are failing", warning=0.05,
         critical=0.25, for_s=300),
    Rule(id="queue-dead", metric="queue.dead", name="Too many dead letters", op="ge", warning=100),
    Rule(id="queue-dead-growth", metric="queue.dead_growth_per_h", name="Dead letters are increasing", op="ge",
         warning=10, critical=100),
    Rule(id="queue-active-age", metric="queue.active_age_s", name="Job is running too long", warning=3600),
    Rule(id="queue-stalled", metric="queue.stalled", name="Jobs are stalled", op="ge", warning=1,
         for_s=120),
    Rule(id="queue-overdue", metric="queue.overdue_s", name="Scheduled jobs are overdue", critical=300),
    Rule(id="schedule-late", metric="schedule.late_s", name="Schedule is late", warning=300, critical=3600,
         inhibited_by=("queue-no-consumers", "queue-overdue")),
    Rule(id="queue-slower", metric="queue.runtime_p95_ratio", name="Jobs of a queue became slower", op="ge",
         warning=2, for_s=900, no_data="ok", inhibited_by=("class-slower",)),
    Rule(id="class-slower", metric="class.runtime_p95_ratio", name="Jobs of a class became slower", op="ge",
         warning=2, for_s=900, no_data="ok"),
    Rule(id="slo-burn-fast", metric="slo.burn_rate_1h", name="Error budget is burning fast", op="ge", critical=14.4,
         for_s=0, min_samples=1),
    Rule(id="slo-burn", metric="slo.burn_rate_6h", name="Error budget is used up too fast", op="ge", warning=6,
         for_s=0, min_samples=1, inhibited_by=("slo-burn-fast",)),
    Rule(id="slo-burn-slow", metric="slo.burn_rate_3d", name="Error budget will not last", op="ge", warning=1,
         for_s=0, min_samples=1, inhibited_by=("slo-burn-fast", "slo-burn")),
    Rule(id="queue-quiet", metric="queue.activity_ratio", name="Queue is unusually quiet", op="le", warning=0,
         for_s=600, inhibited_by=("queue-no-consumers", "queue-no-progress", "workers-gone")),
    Rule(id="class-quiet", metric="class.activity_ratio", name="Job class is unusually quiet", enabled=False, op="le",
         warning=0, for_s=600,
         inhibited_by=("queue-quiet", "queue-no-consumers", "queue-no-progress", "workers-gone")),
    Rule(id="queue-fewer-workers", metric="queue.workers_ratio", name="Fewer workers than usual", enabled=False,
         op="lt", warning=0.5, for_s=600, inhibited_by=("queue-no-consumers", "workers-gone")),
    Rule(id="queue-no-new-jobs", metric="queue.enqueue_idle_s", name="No new jobs", enabled=False, op="ge",
         warning=3600, inhibited_by=("queue-quiet",)),
    Rule(id="queue-paused", metric="queue.paused_s", name="Queue is paused with jobs waiting", warning=3600),
    Rule(id="checker-slow", metric="checker.heartbeat_age_s", name="Alert evaluation is late",
         critical=6),  # LATE_INTERVALS of the actual length
    Rule(id="notify-undelivered", metric="notify.undelivered_s", name="Notifications are not being delivered",
         critical=600),
    Rule(id="notify-dead", metric="notify.dead", name="Notification could not be delivered", op="ge",
         warning=1, for_s=0, min_samples=1),
    Rule(id="queue-depth", metric="queue.depth", name="Too many jobs waiting", enabled=False, warning=1000,
         critical=10_000),
    Rule(id="queue-throughput", metric="queue.throughput_per_min", name="Throughput is low", enabled=False,
         op="lt", warning=1, for_s=600),
    Rule(id="error-new", metric="error.new", name="New error", enabled=False, warning=0, for_s=0, min_samples=1,
         recover_for_s=0, group_wait_s=0, repeat_every_s=0, notify_resolved=False),
    Rule(id="error-regressed", metric="error.regressed", name="Error returned", enabled=False, warning=0, for_s=0,
         min_samples=1, recover_for_s=0, group_wait_s=0, repeat_every_s=0, notify_resolved=False),
)  # fmt: skip


def default_rules(interval_s: float = 2.0) -> tuple[Rule, ...]:
    """The default rules, in the order of the page. `interval_s` = between samples.

    A rule with the same id in the settings replaces one of these.
    """
    late_s = LATE_INTERVALS * interval_s
    return tuple(
        msgspec.structs.replace(rule, critical=late_s) if rule.id == "checker-slow" else rule for rule in _RULES
    )


def example_rule(metric: str) -> Rule | None:
    """The built-in rule on a metric, whose thresholds are a start for others; None for a metric without one."""
    return next((rule for rule in _RULES if rule.metric == metric), None)
