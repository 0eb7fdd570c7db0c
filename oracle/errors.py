"""Every error Sibyl raises, drawn as a tree: catch a branch to handle a kind, a leaf to handle a case.

``SibylError.remedy`` is a sentence that tells the reader what to do next; the CLI prints it below the message.
"""

from __future__ import annotations

from oracle.domain import FailureReason


class SibylError(Exception):
    """Base of every error of this project. ``remedy`` says what the reader can do about it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class ConfigurationError(SibylError):
    """The settings, a key, a port or a file on this machine is wrong; nothing was started."""


class MissingTool(ConfigurationError):
    """An executable that Sibyl runs (anvil, node) is not installed."""


class PortTaken(ConfigurationError):
    """A port that a server of ours must listen on is in use."""


class Retryable(SibylError):
    """The same call may succeed later; the pipeline retries it with backoff, within the request's deadline."""


class PermanentFailure(SibylError):
    """A request can never be answered. ``reason`` is posted on-chain and the money goes back."""

    reason: FailureReason = FailureReason.COMPUTE_FAILED

    def __init__(self, message: str, *, reason: FailureReason | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        if reason is not None:
            self.reason = reason


class ContentError(SibylError):
    """Base of what can go wrong between us and the content store."""


class ContentUnavailable(ContentError, Retryable):
    """The store did not deliver the content in time, or does not have it now."""


class ContentCorrupt(ContentError, Retryable):
    """The store served bytes that do not hash to the CID asked for; another try or peer may serve the right ones."""


class ContentTooLarge(ContentError, PermanentFailure):
    """The content is larger than the caller allows."""

    reason = FailureReason.IMAGE_TOO_LARGE


class ContentMalformed(ContentError, PermanentFailure):
    """The CID names a block that is not a file (a directory, an unknown codec or hash), so it never can be read."""

    reason = FailureReason.IMAGE_UNREADABLE


class AddressRefused(ContentError):
    """A web address that Sibyl does not fetch from: of another kind than http(s), or one that leads into a private
    network."""


class FetcherBusy(ContentError, Retryable):
    """Too many web addresses are being fetched, or one of this client already."""


class ImageRejected(PermanentFailure):
    """The bytes are not a picture that Sibyl accepts. ``reason`` says which rule they break."""

    reason = FailureReason.IMAGE_UNREADABLE


class ModelError(SibylError):
    """Base of what can be wrong with a model."""


class ManifestInvalid(ModelError, PermanentFailure):
    """A model manifest that breaks the schema; the message names the field."""

    reason = FailureReason.MODEL_UNAVAILABLE


class ModelUnservable(ModelError, PermanentFailure):
    """No backend here can run the model: unknown task or engine, or weights that do not match their sha256."""

    reason = FailureReason.MODEL_UNAVAILABLE


class ComputeError(SibylError):
    """Base of what a compute backend raises."""


class UnknownTask(ComputeError):
    """The backend has never heard of this idempotency key."""


class TaskConflict(ComputeError):
    """The idempotency key is in use for a task with other content."""


class PayloadTooLarge(ComputeError, PermanentFailure):
    """The task's inputs exceed what the backend carries."""

    reason = FailureReason.IMAGE_TOO_LARGE


class BudgetExhausted(ComputeError, Retryable):
    """The task's budget does not cover what the backend asks."""


class NoOffers(ComputeError, Retryable):
    """Nobody on the market, or not the provider that was named, offers to do the task now."""


class WorkerLost(ComputeError, Retryable):
    """The worker died, hung past its time or vanished while it held the task."""


class TaskTimeout(ComputeError, Retryable):
    """The task did not finish before its deadline."""


class TaskCancelled(ComputeError):
    """The task was cancelled before it finished."""


class MalformedResult(ComputeError, Retryable):
    """The worker's result breaks the schema or does not belong to the task."""


class ChainError(SibylError):
    """Base of what can go wrong between us and the chain."""


class RpcUnavailable(ChainError, Retryable):
    """The RPC endpoint did not answer, or answered with a server error."""


class RpcRangeRefused(ChainError, Retryable):
    """The RPC endpoint refuses a log range of this size; ask for less."""


class ReportReverted(ChainError):
    """The coordinator would revert, or reverted, the report. ``error`` is the decoded custom error."""

    def __init__(self, error: str, *, remedy: str = "") -> None:
        super().__init__(f"the coordinator reverts: {error}", remedy=remedy)
        self.error = error


class TransactionRefused(ChainError):
    """The node refused the transaction (nonce too low, underpriced, no funds).

    ``underpriced``: higher fees would do. ``unfunded``: more ether would do. ``too_large``: it asks for more gas than
    a block has.
    """

    underpriced = False
    unfunded = False
    too_large = False


class WrongChain(ChainError, ConfigurationError):
    """The endpoint serves another chain than the one configured, or the address holds no coordinator."""


class GatewayError(SibylError):
    """Base of why the gateway does not pay for a request; nothing was paid."""


class KeyNeeded(GatewayError):
    """The gateway pays for those who hold a key, and none was given, or none that counts."""


class BalanceTooLow(GatewayError):
    """The gateway's own balance at the coordinator does not cover the request."""


class DayLimitReached(GatewayError):
    """The key's limit for the day, or the gateway's own. ``retry_after``: seconds until the next day begins."""

    def __init__(self, message: str, *, retry_after: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class ModelNotSold(GatewayError):
    """The gateway cannot ask this model: unknown, paused, dearer than allowed, or priced in a token."""


class AskedOtherwise(GatewayError):
    """An idempotency key that was used for another request."""


class StillAsking(GatewayError, Retryable):
    """The same request was begun before, and it is not known yet what became of it; it is not paid twice.

    ``retry_after``: seconds after which it may be sent again; None where that would pay twice.
    """

    retry_after: int | None = 2


class WishTaken(SibylError):
    """Another provider was wished for the same picture by the same requester a short while ago."""


class WishNotSigned(SibylError):
    """Who wishes for a provider is not the requester, or wished it too long ago."""


class UploadsFull(Retryable):
    """What was uploaded, and nobody has asked about yet, takes all the room that it may. ``retry_after`` in seconds."""

    retry_after = 600


class TooMuchUploaded(SibylError):
    """One client uploaded as much as it may in a day. ``retry_after``: seconds until it may go on."""

    def __init__(self, message: str, *, retry_after: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class StoreError(SibylError):
    """Base of what can go wrong with the database."""


class StoreBusy(StoreError):
    """As many wait for the database as may."""


class StoreTooNew(StoreError, ConfigurationError):
    """The database was written by a newer Sibyl."""


class StoreMismatch(StoreError, ConfigurationError):
    """The database belongs to another chain or another coordinator."""


class IllegalTransition(StoreError):
    """A request was asked to move between statuses that the table of transitions does not join."""
