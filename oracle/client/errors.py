"""What can go wrong for a requester, beside what chain and content raise."""

from __future__ import annotations

from oracle.errors import SibylError


class UnknownRequest(SibylError):
    """The coordinator holds no request with this id."""


class NotAnsweredYet(SibylError):
    """The wait ended before the request did."""


class HistoryTooLong(SibylError):
    """The endpoint did not get through the blocks that may hold a request's logs in time."""


class NothingToWithdraw(SibylError):
    """The coordinator holds nothing for the account, or nothing that the model earned."""


class NotYours(SibylError):
    """Another account made the request."""


class NotCancellable(SibylError):
    """The coordinator takes no request back, or this one has ended."""


class CallTimedOut(SibylError):
    """A call of the synchronous client did not end within its time, and was broken off."""
