"""Sign-in at a certified OpenID Connect provider, in a browser: to the page that was asked for, and out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dashboard.demo.embedded import EmbeddedRedis, reserved_port
from tests.e2e.conftest import Visit
from tests.oidc import CLIENT, SECRET, real_provider
from tests.serving import serving

pytestmark = pytest.mark.e2e
# The provider sends these claims from its userinfo endpoint, not in the ID token.
ACCOUNTS = {
    "anna": {"email": "anna@example.com", "email_verified": True, "groups": ["ops"]},
    "ben": {"email": "ben@example.com", "email_verified": True, "groups": ["sales"]},
}
SETTINGS = """
redis_url = "{redis}"
sample_interval_s = 0.5
public_url = "{url}"
root_path = "/ops"
secret_key = "{key}"
[oidc]
issuer = "{issuer}"
client_id = "{client}"
client_secret = "{secret}"
title = "Example login"
groups_claim = "groups"
[oidc.group_roles]
ops = "operator"
"""


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = tmp_path_factory.mktemp("oidc") / "queuedeck.toml"
    with reserved_port() as port:
        url = f"http://127.0.0.1:{port}/ops"
        with real_provider(f"{url}/login/oidc/callback", ACCOUNTS) as issuer:
            values = {"issuer": issuer, "client": CLIENT, "secret": SECRET, "key": "k" * 40}
            config.write_text(SETTINGS.format(redis=server.url, url=url, **values))
            with serving("--config", Path(config), port=port, QUEUEDECK_AUTH="auto"):
                yield url


def sign_in(page: Page, name: str) -> None:
    """Fill in the forms of the provider: name and password, then consent."""
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def test_a_link_leads_through_the_provider_to_its_page(visit: Visit, url: str) -> None:
    # Its own pages refer to a font elsewhere, which this machine may not reach.
    page = visit(f"{url}/search?q=mail", outage=True).page
    sign_in(page, "anna")
    expect(page).to_have_url(f"{url}/search?q=mail")
    expect(page.locator(".user")).to_contain_text("anna@example.com")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    expect(page.get_by_role("link", name="Sign in with Example login")).to_be_focused()
    page.keyboard.press("Enter")  # the provider still knows the user
    expect(page).to_have_url(f"{url}/")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign out of Example login as well").click()
    page.get_by_role("button", name="Yes, sign me out").click()
    page.goto(f"{url}/workers")
    expect(page.locator("input[name=login]")).to_be_visible()


def test_a_user_without_a_role_reads_why(visit: Visit, url: str) -> None:
    page = visit(f"{url}/", outage=True).page
    sign_in(page, "ben")
    expect(page.get_by_role("alert")).to_contain_text("ben@example.com has no role in Queuedeck.")
    page.get_by_role("link", name="Sign in with another account").click()
    sign_in(page, "anna")
    expect(page.locator(".user")).to_contain_text("anna@example.com")
