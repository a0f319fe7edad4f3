"""All settings with their types and defaults."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .sentinel_urls import build_sentinel_url
from .servers.cluster_urls import build_cluster_url, is_cluster_url

DEFAULT_STORE_PREFIX = "{queuedeck}"
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Redis to watch."""

    name: str
    url: str | None = None  # of the server, its Sentinels or a cluster; or, instead, one of the next two settings
    cluster: tuple[str, ...] = ()  # host:port of some nodes of a Redis Cluster
    sentinels: tuple[str, ...] = ()  # host:port of each
    service: str | None = None  # the name under which the Sentinels monitor the primary
    database: int = 0
    username: str | None = None  # of the Redis servers
    password: str | None = None
    tls: bool = False  # of the Redis servers
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    sentinel_tls: bool | None = None  # None: as `tls`
    ca_file: str | None = None  # for both: a private CA, a client certificate and its key
    cert_file: str | None = None
    key_file: str | None = None
    backends: tuple[str, ...] = ()  # which libraries to look for; empty = all
    prefixes: tuple[str, ...] = ()  # BullMQ key prefixes to read; empty = all that are found
    queues: tuple[str, ...] = ()  # globs of the queues to show; a name without * or ? is monitored before it exists
    broker_url: str | None = None  # Celery: the broker, if it is not `url`
    result_url: str | None = None  # Celery: the result backend, if it is not `url`
    redbeat_url: str | None = None  # Celery: where RedBeat stores its schedules, if not in the broker
    # Celery: the app's broker_transport_options of the same names, without the global_keyprefix. The hash exists only
    # while a worker holds messages, so a search could not find its name in time.
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"

    @property
    def redis_url(self) -> str:
        """`url`, or the equivalent URL of `cluster` or `sentinels` and the settings that belong to them."""
        if self.url is not None:
            return self.url
        files = {"ssl_ca_certs": self.ca_file, "ssl_certfile": self.cert_file, "ssl_keyfile": self.key_file}
        if self.cluster:
            return build_cluster_url(
                self.cluster,
                user=(self.username, self.password),
                tls=self.tls,
                options={name: value for name, value in files.items() if value is not None},
            )
        options = {
            "sentinel_username": self.sentinel_username,
            "sentinel_password": self.sentinel_password,
            "sentinel_tls": None if self.sentinel_tls is None else str(self.sentinel_tls).lower(),
            **files,
        }
        return build_sentinel_url(
            self.sentinels,
            self.service or "",
            self.database,
            user=(self.username, self.password),
            tls=self.tls,
            options={name: value for name, value in options.items() if value is not None},
        )

    @property
    def is_cluster(self) -> bool:
        """Whether this is a Redis Cluster."""
        return bool(self.cluster) or is_cluster_url(self.url)


# The settings of a source that belong to `cluster`, and those that belong to `sentinels`.
WITH_CLUSTER = ("username", "password", "tls", "ca_file", "cert_file", "key_file")
ONLY_WITH_SENTINELS = ("service", "database", "sentinel_username", "sentinel_password", "sentinel_tls")
WITH_SENTINELS = (*ONLY_WITH_SENTINELS, *WITH_CLUSTER)


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people should know about the queues that match; see `queue_directory`."""

    match: str | tuple[str, ...]  # globs of queue names
    source: str = "*"  # globs too
    backend: str = "*"
    owner: str | None = None
    runbook: str | None = None  # a URL
    note: str | None = None


class SloSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service level objective: which share of the jobs of some queues has to be good; see `slos`.

    Exactly one of `waited_within_s`, `ran_within_s` and `succeeded` is set: what makes a job good.
    """

    id: str
    name: str | None = None  # for pages and messages; default: the id
    source: str = "*"  # globs
    backend: str = "*"
    queues: tuple[str, ...] = ()  # globs too; empty = all
    queues_not: tuple[str, ...] = ()
    target: float  # the share that has to be good, such as 0.99
    waited_within_s: float | None = None  # good: started within so long after it could start
    ran_within_s: float | None = None  # good: ran no longer than this
    succeeded: bool = False  # good: did not fail permanently
    window_s: float = 30 * 86_400.0  # over so long

    @property
    def title(self) -> str:
        """The display name."""
        return self.name or self.id


class UserSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user who can sign in."""

    name: str
    password_hash: str  # as `queuedeck hash-password` prints it
    role: Literal["viewer", "operator", "admin"] = "viewer"
    totp_secret: str | None = None  # as `queuedeck totp` prints it; None: no one-time code is required


class ProxySignInSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sign-in by a reverse proxy, which sends the name of the user in a header."""

    peers: tuple[str, ...]  # addresses and networks of the proxies, as they connect; "unix": those of a Unix socket
    user_header: str  # such as X-Forwarded-User
    groups_header: str | None = None
    groups_separator: str = ","
    user_roles: dict[str, str] = {}
    group_roles: dict[str, str] = {}
    # Of everyone who has signed in; None: only users and groups with a role have access.
    default_role: Literal["viewer", "operator", "admin"] | None = None
    sign_out_url: str | None = None  # a path on the host of the dashboard, or a URL


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sign-in at an OpenID Connect provider, such as Keycloak, Okta, Entra ID or Google."""

    issuer: str  # the URL of the provider, as its discovery document states it
    client_id: str
    client_secret: str | None = None  # None: a public client, which the provider knows only by its redirect URI
    title: str = "single sign-on"  # of the button: Sign in with …
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    name_claim: str = "email"  # the claim that names a user; an email counts only if the provider has verified it
    groups_claim: str | None = None  # such as "groups"; with dots for nested ones: "realm_access.roles"
    user_roles: dict[str, str] = {}
    domain_roles: dict[str, str] = {}  # by the domain of the verified email
    group_roles: dict[str, str] = {}
    # Of everyone whom the provider signs in; None: only users, domains and groups with a role have access.
    default_role: Literal["viewer", "operator", "admin"] | None = None
    ca_file: str | None = None  # a private CA of the provider


RightName = Literal["view", "retry", "delete", "pause", "bulk", "alerts", "payload", "rules", "admin"]


class GrantSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rights of some users, groups or API tokens on the queues that match; see `grants`."""

    users: tuple[str, ...] = ()  # names; "*" = all who have signed in
    groups: tuple[str, ...] = ()  # of the sign-in provider, the proxy, or identify
    tokens: tuple[str, ...] = ()  # names of API tokens; "*" = all
    source: str = "*"  # globs
    backend: str = "*"
    queues: tuple[str, ...] = ("*",)  # globs too
    allow: tuple[RightName, ...] = ()  # given; a user with any of these has no other rights from a role
    deny: tuple[RightName, ...] = ()  # taken away, whatever else gives them


class RedactionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is masked besides the built-in names and formats of secrets, and what is not; see `redaction`."""

    names: tuple[str, ...] = ()  # globs of names whose values are hidden
    patterns: tuple[str, ...] = ()  # of values that are hidden, in the syntax of RE2
    allow: tuple[str, ...] = ()  # names whose values are shown although the name is built in
    hook: str | None = None  # module:function that returns the parts of a text to hide


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a Queuedeck instance."""

    redis_url: str | None = None  # one source named "main"; [[sources]] names several
    sources: tuple[SourceSettings, ...] = ()
    store_url: str | None = None  # Redis for Queuedeck's own data; default: the first source
    # The prefix of all of Queuedeck's own keys: dashboards with different settings on one store need one each.
    store_prefix: str = DEFAULT_STORE_PREFIX
    auth: Literal["auto", "none"] = "auto"  # none: local users have full access, without signing in
    metrics_public: bool = False  # /metrics needs no token
    secret_key: str | None = None  # at least 32 bytes; required with users and oidc
    public_url: str | None = None  # base URL of the dashboard: of links in notifications, and where oidc returns to
    trusted_hosts: tuple[str, ...] = ()  # with users: the only Host names that are served, besides local ones
    secret_key_fallbacks: tuple[str, ...] = ()  # former secret keys, whose sessions stay valid
    # The proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are trusted: their number, or their addresses.
    trusted_proxies: int | tuple[str, ...] = 0
    root_path: str | None = None  # the path of all pages, which a proxy passes on, such as /queues
    proxy_sign_in: ProxySignInSettings | None = None  # instead of users: a proxy says who has signed in
    users: tuple[UserSettings, ...] = ()
    oidc: OidcSettings | None = None  # sign-in at an OpenID Connect provider, with or without users
    api_tokens: tuple[str, ...] = ()  # name:role:sha256hex
    grants: tuple[GrantSettings, ...] = ()  # rights on particular queues, in place of those of roles
    redaction: RedactionSettings = RedactionSettings()  # of secrets in jobs
    read_only: bool = False  # disables every write action: their routes are not registered
    require_reason: bool = False  # requires a reason for every action
    audit_max_events: int = 10_000  # how many events of the audit log are kept, 100 to 1,000,000
    audit_max_age_days: int | None = None  # how long; None: regardless of their age
    audit_syslog: str | None = None  # where its events are sent: udp://, tcp:// or unix://
    bin_max_bytes: int = 64 * 1024 * 1024  # limit for the backups of deleted jobs that can be restored
    history_max_bytes: int = 64 * 1024 * 1024  # limit for the stored history; 0: none is recorded
    bulk_max_jobs: int = 100_000  # maximum jobs per bulk operation
    # Bulk operations that delete, kill or cancel more jobs than this wait for the approval of a second person.
    bulk_approval_over: int | None = None
    sample_interval_s: float = 2.0  # seconds between two samples, 0.5 to 300
    checker: Literal["auto", "off"] = "auto"  # auto: this process takes part in sampling; off: only reads
    dlq_queues: tuple[str, ...] = ("*dlq*", "*dead*letter*")
    queues: tuple[QueueSettings, ...] = ()  # their owners, runbooks and notes
    slos: tuple[SloSettings, ...] = ()  # service level objectives
    alerts: Literal["on", "off"] = "on"  # off: rules are not evaluated and no notifications are sent
    rules: tuple[dict[str, Any], ...] = ()  # in addition to the default rules; checked in dashboard.alerts
    channels: tuple[dict[str, Any], ...] = ()  # notification channels; checked in dashboard.alerts
    allow_private_webhooks: bool = False  # allows notifications to http:// URLs and to addresses of private networks
    ping_url: str | None = None  # pinged every minute while evaluation and delivery work: a dead man's switch
    spool_dir: str | None = None  # folder for alerts about the store itself; default: one in /tmp for this user

    def effective_sources(self) -> tuple[SourceSettings, ...]:
        """The sources to monitor, at least one: [[sources]], else `redis_url`, else the Redis on this machine."""
        if self.sources:
            return self.sources
        return (SourceSettings(name="main", url=self.redis_url or DEFAULT_REDIS_URL),)
