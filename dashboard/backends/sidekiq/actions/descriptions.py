"""What each action does in Sidekiq, in one sentence for previews, and why some actions are not offered."""

from __future__ import annotations

from ...actions import Action

EXPLAINED = {
    Action.RETRY: "Enqueues the job now, like Retry Now in Sidekiq's dashboard. This attempt is not counted.",
    Action.PROMOTE: "Enqueues the job now instead of at its scheduled time. The attempt counts as usual.",
    Action.KILL: "Moves the job to the dead set unchanged. The app's death handlers do not run.",
    Action.DELETE: (
        "Deletes the job. Its uniqueness lock, if any, stays until it expires or, without an expiry, until the app "
        "removes it. A batch (Sidekiq Pro) that contains the job never completes."
    ),
    Action.MOVE: "Moves the job to the back of the other queue. If it fails, it is retried there.",
    Action.DUPLICATE: "Enqueues a new job with the same class and arguments. Client middleware does not run for it.",
    Action.EDIT: "Enqueues a new job with these arguments. The original is kept.",
    Action.STOP: "Stops an iterable job (Sidekiq 7.3 and later) before its next step. No other job can be stopped.",
    Action.OBLITERATE: (
        "Deletes the queue and all its waiting jobs. It reappears with the next push. Batches (Sidekiq Pro) of these "
        "jobs never complete, and their uniqueness locks stay."
    ),
    Action.TRIGGER: "sidekiq-cron: enqueues one job now, from the message stored with the schedule.",
    Action.PAUSE_SCHEDULE: "Disables the schedule. If the app reloads its schedules, it can enable it again.",
    Action.RESUME_SCHEDULE: "Enables the schedule. It next runs at its usual time.",
    Action.QUIET: "The process finishes its running jobs and fetches no new ones. To resume, restart it.",
    Action.STOP_WORKER: "Stops the process. Jobs that do not finish in time (25 s) return to their queue.",
}
WITHHELD = {
    Action.PAUSE: "Pausing a queue needs Sidekiq Pro, whose protocol is not public.",
    Action.RESUME: "Resuming a queue needs Sidekiq Pro, whose protocol is not public.",
    Action.CANCEL: "Sidekiq has no canceled jobs. Delete the job instead; you can restore it for a day.",
    Action.REMOVE_SCHEDULE: "The app restores its schedules when it starts. Pause it here, or remove it in the app.",
    Action.PURGE: "Sidekiq has no command for this. Delete the jobs instead.",
}
