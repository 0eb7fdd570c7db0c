"""What a provider offers, and how it answers a demand: the policy of Golem's own provider agent, as pure functions.

Source: the negotiators of ya-provider (one agreement at a time, expiration, debit notes, payment timeout, price).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from oracle.devnet.golem.pricing import USAGE_VECTOR, Terms, covers

MIN_EXPIRATION: Final = 5 * 60.0
MAX_EXPIRATION: Final = 10 * 3600.0
MAX_EXPIRATION_WITHOUT_NOTES: Final = 30 * 60.0
MEMORY_GIB: Final = 4.0
STORAGE_GIB: Final = 4.0

COEFFICIENTS: Final = "golem.com.pricing.model.linear.coeffs"
CHOSEN_PLATFORM: Final = "golem.com.payment.chosen-platform"
EXPIRATION: Final = "golem.srv.comp.expiration"
TASK_PACKAGE: Final = "golem.srv.comp.task_package"
ACCEPT_TIMEOUT: Final = "golem.com.payment.debit-notes.accept-timeout?"
NOTE_INTERVAL: Final = "golem.com.scheme.payu.debit-note.interval-sec?"
PAYMENT_TIMEOUT: Final = "golem.com.scheme.payu.payment-timeout-sec?"

_ACCEPT_SECONDS = 240
_PAYMENT_SECONDS = 120
_RANGES = {ACCEPT_TIMEOUT: (5, _ACCEPT_SECONDS), NOTE_INTERVAL: (1, 24 * 3600), PAYMENT_TIMEOUT: (1, 24 * 3600)}

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Counter:
    """Agreed, with these properties of the offer."""

    properties: Properties


@dataclass(frozen=True, slots=True)
class Rejection:
    """Not agreed. One that is not ``final`` may be taken up again, when there is room."""

    message: str
    final: bool


def offer_properties(name: str, subnet: str, platform_name: str, address: str, terms: Terms) -> Properties:
    """The properties of an offer of the VM runtime; ``platform_name`` is like ``erc20-hoodi-tglm``."""
    return {
        "golem.node.id.name": name,
        "golem.node.debug.subnet": subnet,
        "golem.runtime.name": "vm",
        "golem.runtime.version": "0.4.2",
        "golem.runtime.capabilities": [],
        "golem.inf.cpu.architecture": platform.machine(),
        "golem.inf.cpu.cores": terms.threads,
        "golem.inf.cpu.threads": terms.threads,
        "golem.inf.mem.gib": MEMORY_GIB,
        "golem.inf.storage.gib": STORAGE_GIB,
        "golem.activity.caps.transfer.protocol": ["gftp"],
        "golem.com.scheme": "payu",
        "golem.com.pricing.model": "linear",
        "golem.com.usage.vector": list(USAGE_VECTOR),
        COEFFICIENTS: list(terms.coefficients),
        f"golem.com.payment.platform.{platform_name}.address": address,
        "golem.com.payment.protocol.version": 3,
        "golem.srv.caps.multi-activity": True,
        ACCEPT_TIMEOUT: _ACCEPT_SECONDS,
        NOTE_INTERVAL: round(terms.debit_note_interval),
        PAYMENT_TIMEOUT: _PAYMENT_SECONDS,
    }


def offer_constraints(subnet: str) -> str:
    """What an offer wants of a demand."""
    return f"(&\n  ({EXPIRATION}>{int(time.time() * 1000)})\n  (golem.node.debug.subnet={subnet})\n)"


def respond(offer: Properties, demand: Properties, *, now: float, busy: bool) -> Counter | Rejection:
    """The answer to a demand; ``now`` in Unix seconds, ``busy`` while there is an agreement."""
    if CHOSEN_PLATFORM not in demand:
        return Rejection("No payment platform was chosen", final=True)
    if f"golem.com.payment.platform.{demand[CHOSEN_PLATFORM]}.address" not in offer:
        return Rejection(f"Payment platform {demand[CHOSEN_PLATFORM]} is not accepted", final=True)
    expiration = demand.get(EXPIRATION)
    if not isinstance(expiration, int | float):
        return Rejection("Proposal has no expiration", final=True)
    left = expiration / 1000 - now
    longest = MAX_EXPIRATION if ACCEPT_TIMEOUT in demand else MAX_EXPIRATION_WITHOUT_NOTES
    if not MIN_EXPIRATION <= left <= longest:
        limits = f"{MIN_EXPIRATION:g} s or more than {longest:g} s"
        return Rejection(f"Proposal expires in {left:.0f} s, which is less than {limits}", final=left < MIN_EXPIRATION)
    agreed = dict(offer)
    for name, (least, most) in _RANGES.items():
        if name not in demand:
            agreed.pop(name, None)
            continue
        value = demand[name]
        if not isinstance(value, int | float) or not least <= value <= most:
            return Rejection(f"{name} {value} is not from {least} to {most}", final=True)
        agreed[name] = value
    if COEFFICIENTS in demand:
        if not covers(demand[COEFFICIENTS], offer[COEFFICIENTS]):
            return Rejection("The price is too low", final=True)
        agreed[COEFFICIENTS] = demand[COEFFICIENTS]
    if busy:
        return Rejection("No capacity available. Reached Agreements limit: 1", final=False)
    return Counter(agreed)
