"""Reports of the operator: simulated, priced, signed, broadcast, replaced, and read back from their receipts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from oracle.chain.calls import has_it_already, has_trouble, no_funds, nonce_is_used, remedy_of, revert_of
from oracle.chain.codec import InvalidData, encode_report, hexed, quantity, unhexed
from oracle.chain.coordinator import CoordinatorLog, read_header, read_log, settlements
from oracle.chain.fees import FeeMarket, FeePolicy
from oracle.chain.rpc import Rpc, RpcFault
from oracle.domain import FailureReason, Fees, Fulfilment, LogPosition, OnChainStatus, ReportReceipt, SignedReport
from oracle.errors import ReportReverted, RpcUnavailable, TransactionRefused

MAX_TRANSACTION_GAS = 2**24
"""No transaction may have more since EIP-7825."""

_CALL_OVERHEAD = 40_000  # what the coordinator keeps back for each call it makes, besides one part in 64 (EIP-150)
_TRANSFER_GAS = 50_000  # what it gives the requester of a failed item with the money
# Two token balances emptied by withdrawals between estimate and block: 17,100 more each to write again (EIP-2929).
_STORAGE_MARGIN = 35_000
_FEES_TOO_LOW = ("underpriced", "less than block base fee", "fee too low", "fee cap less", "max fee per gas", "tip too")
_TOO_MUCH_GAS = ("exceeds block gas limit", "gas limit too high", "exceeds gas limit", "gas too high", "intrinsic gas")


class EthereumReportSender:
    """Implements ``ports.ReportSender`` with a local key; ``policy`` bounds what it pays for gas."""

    def __init__(
        self, rpc: Rpc, account: LocalAccount, coordinator: str, chain_id: int, policy: FeePolicy | None = None
    ) -> None:
        self._rpc = rpc
        self._account = account
        self._coordinator = to_checksum_address(coordinator)
        self._chain_id = chain_id
        self._market = FeeMarket(rpc, policy or FeePolicy())

    @property
    def address(self) -> str:
        """The operator's checksum address."""
        return str(self._account.address)

    async def next_nonce(self) -> int:
        """The account's next nonce as the chain sees it, unmined transactions of ours not counted."""
        try:
            return quantity(await self._rpc.call("eth_getTransactionCount", [self.address, "latest"]))
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent no nonce: {error}") from error

    async def prepare(self, items: Sequence[Fulfilment], nonce: int) -> SignedReport:
        """Simulate, estimate, price and sign; nothing is broadcast.

        Raises ReportReverted when the simulation reverts, TransactionRefused, RpcUnavailable.
        """
        data = encode_report(items)
        gas = await self._gas(data, items)
        return self._signed(data, items, nonce, await self._market.fees(), gas)

    async def replace(self, report: SignedReport, items: Sequence[Fulfilment]) -> SignedReport:
        """The same items at the same nonce with fees raised enough for a node to accept the replacement.

        Raises ReportReverted, TransactionRefused when the fee cap forbids it, RpcUnavailable, and ValueError when
        ``items`` are not the report's.
        """
        if tuple(item.request_id for item in items) != report.request_ids:
            raise ValueError("a replacement carries the items of the report that it replaces")
        fees = await self._market.raised(report.fees)
        data = encode_report(items)
        # Estimated anew because a skipped neighbour or a new callback may need more; never less than before.
        gas = max(report.gas_limit, await self._gas(data, items))
        return self._signed(data, items, report.nonce, fees, gas)

    async def gas_price(self) -> int:
        """Wei per gas that a report mined in the next block pays."""
        return await self._market.gas_price()

    def signed(self, report: SignedReport) -> bool:
        """Whether this operator's key signed the report; another key's nonces say nothing about ours."""
        return bool(Account.recover_transaction(report.raw) == self.address)

    async def is_outbid(self, report: SignedReport) -> bool:
        """Whether the next block's transactions offer more than the report does."""
        return await self._market.outbids(report.fees)

    async def broadcast(self, report: SignedReport) -> None:
        """Send the raw bytes; a node that already knows them, or mined them, is no error.

        Raises TransactionRefused, RpcUnavailable.
        """
        try:
            answer = await self._rpc.call("eth_sendRawTransaction", [hexed(report.raw)])
        except RpcFault as fault:
            await self._judge_refusal(report, fault)
            return
        if answer != hexed(report.transaction_hash):
            raise RpcUnavailable(f"{self._rpc.host} took the report under another hash than its own")

    async def receipt(self, transaction_hash: bytes) -> ReportReceipt | None:
        """The receipt on the canonical chain, or None while there is none."""
        raw = await self._rpc.call("eth_getTransactionReceipt", [hexed(transaction_hash)])
        # A node that has the transaction but not its block sends a receipt without a block.
        if raw is None or (isinstance(raw, Mapping) and raw.get("blockNumber") is None):
            return None
        try:
            return await self._read_receipt(transaction_hash, raw)
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent a receipt that cannot be trusted: {error}") from error

    async def _gas(self, data: bytes, items: Sequence[Fulfilment]) -> int:
        call = {"from": self.address, "to": self._coordinator, "data": hexed(data)}
        try:
            estimate = quantity(await self._rpc.call("eth_estimateGas", [call, "latest"]))
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent no estimate: {error}") from error
        except RpcFault as fault:
            reason = revert_of(fault)
            if reason is not None:
                raise ReportReverted(reason, remedy=remedy_of(reason)) from fault
            raise (no_funds(self.address, fault) or fault) from fault
        if estimate > MAX_TRANSACTION_GAS:
            raise ReportReverted(
                f"needs {estimate} gas, more than a transaction may have", remedy="send fewer items in one report"
            )
        # The estimate is the least gas that does not revert. A requester may spend more in the block than it did in the
        # simulation, and the 63/64 check of the calls after it must hold all the same.
        calls = [
            item.callback_gas if item.failure is FailureReason.NONE else _TRANSFER_GAS
            for item in items
            if item.callback_gas or item.failure is not FailureReason.NONE
        ]
        reserve = sum(gas * 64 // 63 + _CALL_OVERHEAD for gas in calls)
        return min(estimate * 6 // 5 + _STORAGE_MARGIN + reserve, MAX_TRANSACTION_GAS)

    def _signed(self, data: bytes, items: Sequence[Fulfilment], nonce: int, fees: Fees, gas_limit: int) -> SignedReport:
        signed = self._account.sign_transaction(
            {
                "type": 2,
                "chainId": self._chain_id,
                "nonce": nonce,
                "to": self._coordinator,
                "value": 0,
                "data": data,
                "gas": gas_limit,
                "maxFeePerGas": fees.max_fee,
                "maxPriorityFeePerGas": fees.max_priority_fee,
            }
        )
        return SignedReport(
            transaction_hash=bytes(signed.hash),
            raw=bytes(signed.raw_transaction),
            nonce=nonce,
            fees=fees,
            gas_limit=gas_limit,
            request_ids=tuple(item.request_id for item in items),
        )

    async def _judge_refusal(self, report: SignedReport, fault: RpcFault) -> None:
        """Return when the refusal is none; else raise what it means."""
        reason = fault.reason.lower()
        if has_it_already(fault):
            return
        if nonce_is_used(fault):
            if await self._rpc.call("eth_getTransactionReceipt", [hexed(report.transaction_hash)]) is not None:
                return
            raise TransactionRefused(
                f"nonce {report.nonce} of {self.address} was used by another transaction",
                remedy="let no other program send with the operator's key",
            ) from fault
        if has_trouble(fault):
            raise fault
        underpriced = any(part in reason for part in _FEES_TOO_LOW)
        remedy = "its fees are too low; replace it with higher ones" if underpriced else ""
        refused = no_funds(self.address, fault) or TransactionRefused(
            f"the node refused it: {fault.reason}", remedy=remedy
        )
        refused.underpriced = underpriced
        refused.too_large = any(part in reason for part in _TOO_MUCH_GAS)
        raise refused from fault

    async def _read_receipt(self, transaction_hash: bytes, raw: Any) -> ReportReceipt | None:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("logs"), list):
            raise InvalidData("a receipt expected")
        if unhexed(raw.get("transactionHash"), 32) != transaction_hash:
            raise InvalidData("it belongs to another transaction")
        number, block_hash = quantity(raw.get("blockNumber")), unhexed(raw.get("blockHash"), 32)
        logs = self._own_logs(raw["logs"], transaction_hash, number, block_hash)
        header = await self._rpc.call("eth_getBlockByNumber", [hex(number), False])
        block = None if header is None else read_header(self._rpc.host, header)
        if block is None or (block.number, block.hash) != (number, block_hash):
            # The block was reorganised away between the two calls.
            return None
        positions = [LogPosition(block, transaction_hash, log.log_index) for log in logs]
        return ReportReceipt(
            transaction_hash=transaction_hash,
            block=block,
            succeeded=quantity(raw.get("status")) == 1,
            gas_used=quantity(raw.get("gasUsed")),
            effective_gas_price=quantity(raw.get("effectiveGasPrice")),
            settled=tuple(settlements(logs, positions)),
            skipped=dict(_skipped(log) for log in logs if log.event == "FulfilmentSkipped"),
            callback_failed=frozenset(
                request_id
                for log in logs
                if log.event == "CallbackFailed" and isinstance(request_id := log.values[0], bytes)
            ),
        )

    def _own_logs(
        self, raw_logs: list[object], transaction_hash: bytes, number: int, block_hash: bytes
    ) -> list[CoordinatorLog]:
        logs = [log for raw in raw_logs if (log := read_log(raw, self._coordinator)) is not None]
        for log in logs:
            if (log.transaction_hash, log.block_number, log.block_hash) != (transaction_hash, number, block_hash):
                raise InvalidData("a log in it belongs to another transaction or block")
        return logs


def _skipped(log: CoordinatorLog) -> tuple[bytes, OnChainStatus]:
    match log.values:
        case (bytes(request_id), int(status)) if status in set(OnChainStatus):
            return request_id, OnChainStatus(status)
    raise InvalidData(f"a skipped item with an unknown status: {log.values}")
