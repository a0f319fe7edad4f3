"""Names and numbers of a fictional shop, for realistic jobs."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

FIRST_NAMES = ("anna", "bruno", "chiara", "dmitri", "elif", "farid", "greta", "hugo", "ines", "jonas", "kaya", "liam")
LAST_NAMES = ("albrecht", "bianchi", "costa", "dubois", "eriksen", "fischer", "garcia", "horvat", "ito", "jansen")
DOMAINS = ("example.com", "example.org", "mail.example.net")
PRODUCTS = ("espresso cups", "linen towel", "desk lamp", "wool blanket", "bread knife", "tea pot", "garden chair")
ENDPOINTS = (
    "https://api.parcel.example/v2/events",
    "https://hooks.ledger.example/incoming",
    "https://erp.example/queue",
)
REPORTS = ("monthly-revenue", "stock-levels", "refunds", "slow-movers")


def random_customer() -> dict[str, Any]:
    """Return a customer: id, name, email address."""
    first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
    return {
        "id": random.randint(10_000, 99_999),
        "name": f"{first.title()} {last.title()}",
        "email": f"{first}.{last}@{random.choice(DOMAINS)}",
    }


def random_recipient() -> str:
    """Return an email address."""
    address: str = random_customer()["email"]
    return address


def random_image() -> str:
    """Return the path of an upload."""
    return f"uploads/{datetime.now(UTC):%Y}/IMG_{random.randint(1, 9999):04}.jpg"


def random_endpoint() -> str:
    """Return the URL of a partner's webhook."""
    return random.choice(ENDPOINTS)


def random_order_number() -> str:
    """Return an order number such as 2026-048213."""
    return f"{datetime.now(UTC):%Y}-{random.randint(1, 99_999):06}"


def random_order() -> dict[str, Any]:
    """Return an order: number, customer, one to four lines, total in cents, currency."""
    lines = [
        {"sku": f"SKU-{random.randint(100, 999)}", "title": title, "quantity": random.randint(1, 3)}
        for title in random.sample(PRODUCTS, random.randint(1, 4))
    ]
    return {
        "number": random_order_number(),
        "customer": random_customer(),
        "lines": lines,
        "total_cents": random.randint(900, 48_000),
        "currency": random.choice(("EUR", "EUR", "CHF", "USD")),
    }


def last_month() -> str:
    """Return the previous month, such as 2026-01."""
    return f"{datetime.now(UTC).replace(day=1) - timedelta(days=1):%Y-%m}"
