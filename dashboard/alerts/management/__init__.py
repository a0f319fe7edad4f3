"""What pages and API do with alerts: list, acknowledge, silence, edit rules, test channels, resend notifications.

Works in every process, leader or not: everything goes through the store. Authorization and audit logging are up to the
caller. Raises BackendUnavailable and Forbidden as the store does; each method states its cost. Thread-safe.
"""
