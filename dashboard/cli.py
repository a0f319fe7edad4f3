"""The command `queuedeck`: serve, demo, checker, check, doctor, audit, hash-password, totp."""

from __future__ import annotations

import argparse
import getpass
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from . import __version__
from .console import discard_output, say
from .errors import ConfigurationError, QueuedeckError
from .settings import Settings, load

DEFAULT_PORT = 9181
# Of the demo's incident.
INCIDENT_AFTER_S, INCIDENT_FOR_S = 120.0, 120.0
EXIT_CONFIGURATION = 2
EXIT_NO_READER = 128 + 13
MIN_PASSWORD = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 for success, 2 for an invalid setting (one line on stderr names
    it), else the status of the command.

    If its output is no longer read, the command ends silently with the status of a process that SIGPIPE ended, unless
    its exit status is its result.
    """
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not discard_output():
            raise
        return EXIT_NO_READER


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        code: int = arguments.run(arguments)
    except QueuedeckError as exc:
        hint = f". {exc.hint}" if exc.hint else ""
        print(f"queuedeck: {exc.message.rstrip('.')}{hint}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="queuedeck", description="One dashboard for every job queue in Redis.")
    parser.add_argument("--version", action="version", version=f"queuedeck {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_serve_options(commands.add_parser("serve", help="run the dashboard"))
    _add_demo_options(commands.add_parser("demo", help="try the dashboard with its own Redis and real workers"))

    doctor = commands.add_parser("doctor", help="check the Redis connection, permissions and risky settings")
    _add_source(doctor)
    doctor.add_argument(
        "--acl", action="store_true", help="only print the ACL SETUSER commands that these settings need"
    )
    doctor.set_defaults(run=_doctor)

    checker = commands.add_parser("checker", help="sample, evaluate rules and send alerts, without the web pages")
    _add_source(checker)
    checker.set_defaults(run=_checker)

    check = commands.add_parser("check", help="evaluate all rules once (Nagios exit codes 0 to 3)")
    _add_source(check)
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.set_defaults(run=_check)

    config = commands.add_parser("config", help="print the effective settings, with secrets masked, or validate them")
    _add_source(config)
    config.add_argument(
        "--check", action="store_true", help="only validate the settings; exits with 2 if they are invalid"
    )
    config.set_defaults(run=_config)

    _add_audit(commands.add_parser("audit", help="verify the audit log"))

    hashing = commands.add_parser(
        "hash-password", help="hash a password, typed or piped in, for password_hash of a user"
    )
    hashing.set_defaults(run=_hash_password)
    codes = commands.add_parser("totp", help="create the secret of a user's one-time codes, for totp_secret")
    codes.add_argument("name", help="name of the user, as the authenticator app shows it")
    codes.set_defaults(run=_create_totp_secret)
    return parser


def _add_audit(audit: argparse.ArgumentParser) -> None:
    steps = audit.add_subparsers(required=True, metavar="COMMAND")
    verify = steps.add_parser("verify", help="check whether stored events were edited, removed, inserted or reordered")
    _add_source(verify)
    verify.add_argument(
        "--unsigned-before",
        type=int,
        default=1,
        metavar="NUMBER",
        help="the first event that has to be signed, if earlier ones were recorded without secret_key",
    )
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    verify.set_defaults(run=_verify_audit)


def _add_serve_options(serve: argparse.ArgumentParser) -> None:
    _add_source(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"port to listen on (default: {DEFAULT_PORT}; 0: any free port)"
    )
    serve.add_argument(
        "--root-path", metavar="PATH", help="path of all pages, such as /queues, where a proxy passes it on"
    )
    serve.add_argument("--threads", type=int, default=16, help="requests served concurrently (default: 16)")
    _add_no_auth(serve)
    serve.set_defaults(run=_serve)


def _add_demo_options(demo: argparse.ArgumentParser) -> None:
    demo.add_argument(
        "--port",
        type=int,
        default=None,
        help=f"port of the dashboard (default: {DEFAULT_PORT} or above; 0: any free port)",
    )
    demo.add_argument(
        "--incident-after",
        type=float,
        metavar="SECONDS",
        default=INCIDENT_AFTER_S,
        help=f"when payments start to fail (default: {INCIDENT_AFTER_S:g})",
    )
    demo.add_argument(
        "--incident-for",
        type=float,
        metavar="SECONDS",
        default=INCIDENT_FOR_S,
        help=f"how long they fail (default: {INCIDENT_FOR_S:g})",
    )
    _add_no_auth(demo)
    demo.set_defaults(run=_demo)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--redis", metavar="URL", help="Redis to watch, such as redis://127.0.0.1:6379/0")
    parser.add_argument("--config", metavar="FILE", help="TOML settings file")


def _add_no_auth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-auth", action="store_true", help="disable sign-in: anyone on this machine has full access (auth = none)"
    )


def _settings(arguments: argparse.Namespace) -> Settings:
    options = {"redis_url": ("--redis", arguments.redis)} if arguments.redis else {}
    if getattr(arguments, "root_path", None) is not None:
        options["root_path"] = ("--root-path", arguments.root_path)
    if getattr(arguments, "no_auth", False):
        options["auth"] = ("--no-auth", "none")
    return load(config=arguments.config, options=options)


def _serve(arguments: argparse.Namespace) -> int:
    from .web.server import serve

    return serve(_settings(arguments), host=arguments.host, port=arguments.port, threads=arguments.threads)


def _demo(arguments: argparse.Namespace) -> int:
    try:
        runner = import_module(".demo.runner", __package__)
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"the demo needs {exc.name}", hint="Install it with: pip install 'queuedeck[demo]'"
        ) from exc
    code: int = runner.main(arguments)
    return code


def _checker(arguments: argparse.Namespace) -> int:
    from .checker_process import run_checker

    return run_checker(_settings(arguments))


def _check(arguments: argparse.Namespace) -> int:
    from .nagios_check import ExitStatus, main

    try:
        return main(_settings(arguments), as_json=arguments.json)
    except QueuedeckError as exc:  # callers expect the exit status of a Nagios plugin, also for an invalid setting
        say(f"QUEUEDECK UNKNOWN - {exc.message}")
        return int(ExitStatus.UNKNOWN)


def _verify_audit(arguments: argparse.Namespace) -> int:
    from .audit_command import verify

    return verify(_settings(arguments), as_json=arguments.json, unsigned_before=arguments.unsigned_before)


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import main as doctor
    from .doctor import print_acl
    from .web.access.oidc_setup import examine_provider

    settings = _settings(arguments)
    return print_acl(settings) if arguments.acl else doctor(settings, examine_provider(settings))


def _config(arguments: argparse.Namespace) -> int:
    from .settings.display import describe
    from .web.app import create_app

    settings = _settings(arguments)
    create_app(settings, start_token="of no start")  # noqa: S106 - opens no connection, checks what `serve` checks
    if arguments.check:
        print("The settings are valid.")
        return 0
    for line in describe(settings):
        print(line)
    return 0


def _hash_password(arguments: argparse.Namespace) -> int:
    del arguments
    from werkzeug.security import generate_password_hash

    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Repeat password: "):
            raise ConfigurationError("the passwords do not match")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < MIN_PASSWORD:
        raise ConfigurationError(f"expected a password of at least {MIN_PASSWORD} characters")
    print(generate_password_hash(password, method="scrypt"))
    return 0


def _create_totp_secret(arguments: argparse.Namespace) -> int:
    import pyotp

    secret = pyotp.random_base32()
    print(f'totp_secret = "{secret}"')
    address = pyotp.TOTP(secret).provisioning_uri(name=arguments.name, issuer_name="Queuedeck")
    print(f"For the authenticator app: {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
