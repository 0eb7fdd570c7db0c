"""EIP-1559 fees from the fee history, cached for a second so that a burst of transactions asks once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from oracle.chain.codec import InvalidData, quantity
from oracle.chain.rpc import Rpc
from oracle.domain import Fees
from oracle.errors import RpcUnavailable, TransactionRefused

GWEI = 10**9
_HISTORY_BLOCKS = 5
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FeePolicy:
    """What a sender is willing to pay, in wei per gas: never above ``max_fee_cap``, and a tip of at least
    ``priority_fee`` however little others give.
    """

    max_fee_cap: int = 200 * GWEI
    priority_fee: int = GWEI


@dataclass(frozen=True, slots=True)
class _Market:
    """The next block's base fee and the going tip within the policy, in wei per gas."""

    base_fee: int
    tip: int


class FeeMarket:
    """The going fees on one endpoint's chain."""

    def __init__(self, rpc: Rpc, policy: FeePolicy) -> None:
        self._rpc = rpc
        self._policy = policy
        self._lock = asyncio.Lock()
        self._cached: _Market | None = None
        self._cached_at = 0.0

    async def fees(self) -> Fees:
        """Fees for a transaction sent now: twice the next block's base fee, and the median tip.

        Raises RpcUnavailable.
        """
        market = await self._now()
        cap = self._policy.max_fee_cap
        return Fees(max_fee=min(2 * market.base_fee + market.tip, cap), max_priority_fee=market.tip)

    async def gas_price(self) -> int:
        """Wei per gas that a transaction mined in the next block pays: its base fee and the going tip."""
        market = await self._now()
        return market.base_fee + market.tip

    async def outbids(self, fees: Fees) -> bool:
        """Whether the next block's transactions offer more than these fees do."""
        market = await self._now()
        return market.tip > fees.max_priority_fee or market.base_fee + market.tip > fees.max_fee

    async def _now(self) -> _Market:
        async with self._lock:
            now = time.monotonic()
            if self._cached is None or now - self._cached_at >= _FRESH_SECONDS:
                self._cached = await self._ask()
                self._cached_at = now
            return self._cached

    async def raised(self, old: Fees) -> Fees:
        """Fees that replace a transaction with ``old`` ones: both at least 12.5% higher, and at least the market's.

        Nodes ask for 10%, some for 12.5%. Raises TransactionRefused when that exceeds the cap, RpcUnavailable.
        """
        market = await self.fees()
        priority = max(_bumped(old.max_priority_fee), market.max_priority_fee)
        max_fee = max(_bumped(old.max_fee), market.max_fee, priority)
        if max_fee > self._policy.max_fee_cap:
            max_fee = max(_bumped(old.max_fee), priority)
        if max_fee > self._policy.max_fee_cap:
            raise TransactionRefused(
                f"a replacement would need {max_fee} wei per gas, above the cap of {self._policy.max_fee_cap}",
                remedy="raise the cap on fees, or wait until the network is cheaper",
            )
        return Fees(max_fee=max_fee, max_priority_fee=priority)

    async def _ask(self) -> _Market:
        history = await self._rpc.call("eth_feeHistory", [hex(_HISTORY_BLOCKS), "latest", [50]])
        try:
            if not isinstance(history, Mapping):
                raise InvalidData("a fee history expected")
            base_fees = history.get("baseFeePerGas")
            if not isinstance(base_fees, list) or not base_fees:
                raise InvalidData("no base fees; Sibyl needs a chain with EIP-1559")
            next_base = quantity(base_fees[-1])
            tips = sorted(quantity(block[0]) for block in history.get("reward") or [])
        except (InvalidData, IndexError, TypeError) as error:
            raise RpcUnavailable(f"{self._rpc.host} sent a fee history that cannot be read: {error}") from error
        going = tips[len(tips) // 2] if tips else 0
        priority = min(max(self._policy.priority_fee, going), self._policy.max_fee_cap)
        return _Market(base_fee=next_base, tip=priority)


def _bumped(fee: int) -> int:
    return max(-(-fee * 9 // 8), fee + 1)
