"""What Sidekiq does when a person acts, in a sentence for previews; and why some actions are not offered."""

from __future__ import annotations

from ...actions import Action

EXPLAINED = {
    Action.RETRY: "The job goes to its queue now, as Sidekiq's own Retry Now does: this try is not counted.",
    Action.PROMOTE: "The job goes to its queue now instead of at its time, and counts as an ordinary try.",
    Action.KILL: "The job goes to the dead set unchanged; death handlers of the app do not run.",
    Action.DELETE: (
        "The job is taken out. A lock that keeps it unique stays: until it expires, or, where it has no expiry, until "
        "the app removes it. A batch (Sidekiq Pro) that it belongs to never completes."
    ),
    Action.MOVE: "The job goes to the newest end of the other queue; if it fails, it is tried again there.",
    Action.DUPLICATE: "A new job of the same class and arguments goes to the queue; client middleware does not see it.",
    Action.EDIT: "A new job with these arguments goes to the queue; the old one stays as it is.",
    Action.STOP: "An iterable job (Sidekiq 7.3 and later) ends before its next step; any other job cannot be stopped.",
    Action.OBLITERATE: (
        "The queue and all jobs that wait in it are deleted; it comes back with the next push. Batches (Sidekiq Pro) "
        "of these jobs never complete, and locks that keep them unique stay."
    ),
    Action.TRIGGER: "sidekiq-cron: one job is pushed now from the message that the schedule keeps.",
    Action.PAUSE_SCHEDULE: "The schedule is disabled; an app that loads its schedules anew may enable it again.",
    Action.RESUME_SCHEDULE: "The schedule is enabled, and runs at its next time.",
    Action.QUIET: "The process finishes what it runs and takes nothing new; it cannot be resumed, only restarted.",
    Action.STOP_WORKER: "The process ends; what does not finish in time (25 s) is put back into its queue.",
}
WITHHELD = {
    Action.PAUSE: "Only Sidekiq Pro pauses queues, by a message to its processes whose form is not public.",
    Action.RESUME: "Only Sidekiq Pro resumes queues, by a message to its processes whose form is not public.",
    Action.CANCEL: "Sidekiq keeps no canceled jobs: delete it, it can be put back for a day.",
    Action.REMOVE_SCHEDULE: "The app writes its schedules anew when it starts: disable it, or remove it there.",
    Action.PURGE: "Sidekiq has no such step of its own: jobs are deleted one by one.",
}
