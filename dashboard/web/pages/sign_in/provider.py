"""Sign-in at an OpenID Connect provider, where the settings configure `oidc`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from flask import make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ....auth import Identity
from ....backends.actions import Outcome
from ....errors import Forbidden, NotFound, QueuedeckError, join_hint
from ....redact import masked_logger
from ...access import oidc_attempts, sessions
from ...access.oidc_claims import ProviderFailed, UserRefused
from ...access.sign_in_limits import AttemptCounter, SignInAttempt, Turns
from ...access.user_names import folded_name, taken_names
from ...context import app_context, app_services
from ...formatting import one_line
from .page import DISABLED, SIGN_IN, record_sign_in, render_sign_in
from .passwords import BUSY, BUSY_S, bp

if TYPE_CHECKING:
    from ...access.oidc import OidcProvider
    from ...access.oidc_attempts import Attempt

log = masked_logger(__name__)

_refusals = AttemptCounter()
# A provider that hangs, and strangers who begin sign-ins, must not occupy the threads that serve pages.
_turns = Turns(4)
UNKNOWN_ATTEMPT = "This sign-in has expired, or it began in another browser. Sign in again."
HERE = "here"  # a query parameter: the browser has been sent to the public URL


@bp.get("/login/oidc")
def begin_oidc() -> ResponseReturnValue:
    """303 to the provider, or to the requested page for a user who is signed in; 502 if the provider does not respond.

    A browser that uses another address than `public_url` is first sent there: the provider returns users to it, and
    the session of the attempt has to be in its cookies. Cost: 1 round trip, and a request to the provider each hour.
    """
    provider = _provider()
    target = sessions.safe_path(request.args.get("next"))
    # An expired session ends here, so that no other tab of this browser ends it and the attempt with it.
    if sessions.signed_in(app_context().settings, app_services().store.source) is not None:
        return redirect(request.script_root + target, code=303)
    if HERE not in request.args and not _is_at(provider.public_url):
        return redirect(f"{provider.public_url}/login/oidc?{urlencode({'next': target, HERE: 1})}", code=303)
    with _turns.turn() as is_free:
        if not is_free:
            return render_sign_in(target, wrong=BUSY), 429, {"Retry-After": str(BUSY_S)}
        try:
            url, attempt = provider.begin(again="again" in request.args)
        except ProviderFailed as exc:
            return render_sign_in(target, wrong=join_hint(exc.message, exc.hint)), 502
    response = make_response(redirect(url, code=303))
    oidc_attempts.remember(response, attempt, target)
    return response


@bp.get("/login/oidc/callback")
def finish_oidc() -> ResponseReturnValue:
    """Where the provider returns users: 303 to the requested page, else the sign-in page with what went wrong.

    403 for an attempt that this browser has not begun, and for a user without a role; 502 if the provider fails.
    Cost: 2 round trips, and 1 to 4 requests to the provider.
    """
    provider = _provider()
    state = request.args.get("state", "")
    found = oidc_attempts.find(state)
    if found is None:
        if sessions.signed_in(app_context().settings, app_services().store.source) is not None:
            return redirect(url_for("overview.index"), code=303)  # a callback that was opened again
        return render_sign_in("/", wrong=UNKNOWN_ATTEMPT), 403
    with _turns.turn() as is_free:
        if not is_free:
            return render_sign_in(found[1], wrong=BUSY), 429, {"Retry-After": str(BUSY_S)}
        response = make_response(_finish(provider, *found))
    oidc_attempts.forget(response, state)
    return response


def _finish(provider: OidcProvider, attempt: Attempt, target: str) -> ResponseReturnValue:
    try:
        _check_answer(provider)
        identity = provider.finish(attempt, request.args["code"])
        _check_name(identity)
    except QueuedeckError as exc:
        return _refuse(exc, target)
    sessions.begin_oidc_session(identity, app_context().settings, provider.sign_out_url())
    record_sign_in(SIGN_IN, identity.name, identity.role.name.lower(), Outcome.DONE)
    return redirect(request.script_root + target, code=303)


def _check_answer(provider: OidcProvider) -> None:
    """Raise Forbidden if the provider returned the user with an error, or if another provider did."""
    error, issuer = request.args.get("error"), request.args.get("iss")
    if error is not None:
        why = one_line(f"{error}: {request.args.get('error_description', '')}", 200)
        log.warning("%s refused a sign-in: %s", provider.settings.issuer, why)
        raise Forbidden(f"{provider.settings.title} refused the sign-in: {one_line(error, 60)}.")
    if issuer not in (None, provider.settings.issuer) or not request.args.get("code"):
        raise Forbidden(UNKNOWN_ATTEMPT)


def _check_name(identity: Identity) -> None:
    """Raise UserRefused for a name that the audit log would confuse with another one. Cost: 1 round trip."""
    settings, tokens = app_context().settings, app_context().token_store
    taken = taken_names(settings)
    with contextlib.suppress(QueuedeckError):  # a Redis that is down must not lock users out
        taken |= tokens.list_names() if tokens else set()
    if folded_name(identity.name) in map(folded_name, taken):
        raise UserRefused(
            identity.name,
            f"A local user or an API token is also called {identity.name}.",
            hint="An administrator has to rename that one.",
        )


def _refuse(exc: QueuedeckError, target: str) -> ResponseReturnValue:
    """The sign-in page with what went wrong; a refused user is recorded in the audit log."""
    if isinstance(exc, UserRefused):
        # Where anyone can have an account at the provider, strangers must not fill the audit log.
        attempt = SignInAttempt(name=f"oidc\0{exc.user}", address=None)
        if _refusals.count_attempt(app_services().store, attempt).is_recorded:
            record_sign_in(SIGN_IN, exc.user, "unknown", Outcome.REFUSED, exc.message)
        else:
            log.warning("%s Too many refusals to record this one in the audit log.", exc.message)
    shown = render_sign_in(target, wrong=join_hint(exc.message, exc.hint), is_refused=isinstance(exc, UserRefused))
    return shown, 403 if isinstance(exc, Forbidden) else 502


def _is_at(public_url: str) -> bool:
    """Whether the browser has opened the dashboard at that URL."""
    wanted = urlsplit(public_url)
    return (wanted.scheme, wanted.netloc.lower()) == (request.scheme, request.host.lower())


def _provider() -> OidcProvider:
    provider = app_context().oidc_provider
    if provider is None:
        raise NotFound(DISABLED)
    return provider
