"""Pages behind a proxy with its own sign-in: user name, sign-out link, and the end of the session at the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard.demo.embedded import EmbeddedRedis, reserved_port
from tests.e2e.conftest import Visit
from tests.nginx import nginx
from tests.serving import serving

pytestmark = pytest.mark.e2e
ENDED = "Your sign-in has ended. Reload the page to sign in again."
SETTINGS = """
sample_interval_s = 0.5
[proxy_sign_in]
peers = ["127.0.0.1"]
user_header = "X-Forwarded-User"
user_roles = { anna = "viewer" }
sign_out_url = "/bye"
"""
# Files in FOLDER select the user, or how the proxy responds after the session has ended.
LOCATIONS = """
location = /bye { return 200 "Signed out."; }
location = /sign-in { default_type text/html; return 200 "<h1>Sign in at the proxy</h1>"; }
location / {
  if (-f FOLDER/page) { rewrite ^ /sign-in last; }
  if (-f FOLDER/redirect) { return 302 /sign-in; }
  if (-f FOLDER/elsewhere) { return 302 http://localhost:PORT/sign-in; }
  if (-f FOLDER/words) { return 401 "Words of the proxy."; }
  if (-f FOLDER/refusal) { return 401; }
  set $who anna;
  if (-f FOLDER/carl) { set $who carl; }
  proxy_set_header X-Forwarded-User $who;
  proxy_pass BEHIND;
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, folder: Path) -> Iterator[str]:
    config = folder / "queuedeck.toml"
    config.write_text(f'redis_url = "{server.url}"\n{SETTINGS}')
    with serving("--config", config, QUEUEDECK_AUTH="auto") as served, reserved_port() as port:
        locations = LOCATIONS.replace("FOLDER", str(folder)).replace("BEHIND", served.url).replace("PORT", str(port))
        with nginx(folder, port, locations):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def proxy_in_state(folder: Path, state: str) -> Iterator[None]:
    """The proxy answers like this inside the block."""
    (folder / state).touch()
    try:
        yield
    finally:
        (folder / state).unlink()


def test_the_user_name_and_the_sign_out_link(visit: Visit, url: str, folder: Path) -> None:
    page = visit(url).page
    expect(page.locator(".user")).to_contain_text("anna")
    page.get_by_role("link", name="Sign out").click()
    expect(page.locator("body")).to_have_text("Signed out.")
    with proxy_in_state(folder, "carl"):
        page = visit(url, outage=True).page
        expect(page.get_by_text("carl has no role in Queuedeck.")).to_be_visible()
        expect(page.get_by_role("link", name="Sign out")).to_be_visible()


@pytest.mark.parametrize("answer", ["page", "redirect", "elsewhere", "refusal", "words"])
def test_a_session_that_ends_is_noticed_and_a_new_one_too(visit: Visit, url: str, folder: Path, answer: str) -> None:
    page = visit(url, outage=answer in ("refusal", "words")).page
    banner = page.locator("[data-banner-text]")
    expect(page.locator("[data-live-button]")).to_have_attribute("data-state", "live")
    with proxy_in_state(folder, answer):
        expect(banner).to_have_text(ENDED)
        expect(page.get_by_text("Sign in at the proxy")).to_have_count(0)
        expect(page.get_by_role("heading", name="Queues")).to_be_visible()
    expect(banner).to_be_hidden()


def test_a_form_that_the_proxy_redirects_elsewhere_is_not_silent(visit: Visit, url: str, folder: Path) -> None:
    """Browsers block such a redirect of a form, by the policy of the page."""
    visitor = visit(f"{url}/workers", outage=True)
    page = visitor.page
    page.get_by_role("button", name="live").click()  # no more polls: they would notice it
    with proxy_in_state(folder, "elsewhere"):
        page.locator("input[type=search]").first.fill("state:dead")
        page.keyboard.press("Enter")
        expect(page.locator("[data-banner-text]")).to_have_text(ENDED)
    assert {error for error in visitor.errors if "form-action" not in error} == set()
    assert visitor.errors
    visitor.errors.clear()
