"""The room where money goes out and comes back: upload, ask, cancel, refund, deposit, withdraw. All is signed here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from oracle.chain.account import AccountSender, Ask, Asked
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.deployment import Role, account_of, fee_policy
from oracle.chain.rpc import Rpc
from oracle.client.errors import NotCancellable, NothingToWithdraw, NotYours
from oracle.client.models import ListedModel
from oracle.client.outcome import Price, RequestLike, id_of
from oracle.client.reading import Reading, unknown
from oracle.content.http import HttpContentStore
from oracle.content.ipfs import IpfsContentStore
from oracle.domain import Cid, OnChainModel
from oracle.errors import SibylError
from oracle.settings import Settings

DEFAULT_DEADLINE = 600  # seconds
SHORTEST_DEADLINE = 30  # seconds, the coordinator's own rule
DEFAULT_MAX_PRICE = 10**16
"""Wei that ``request`` and ``ask`` pay for a picture at most, unless told otherwise."""
_LONGEST_NAME = 100  # characters of a picture's path that an error repeats
_WHAT_IS_READ = "Give a picture's path, its bytes, or a CID of IPFS."

Picture = bytes | bytearray | memoryview | Path | str
"""A picture's bytes, or the path of its file. A text that is no file's path may be the CID of what is pinned."""
ModelLike = int | str | ListedModel | OnChainModel | None
"""A model by number or name, or as it was listed; None means the deployment's own."""


class Wishes(Protocol):
    """Takes down which provider shall compute a picture, before it is asked about."""

    async def wish(self, sender: AccountSender, image: Cid, provider: str) -> None:
        """Raises SibylError when the provider is unknown or the wish cannot be taken."""


class Asking(Reading):
    """Acts for the requester's account. Nothing is signed before its key is needed."""

    def __init__(
        self,
        settings: Settings,
        rpc: Rpc,
        reader: CoordinatorReader,
        chain_id: int,
        content: IpfsContentStore | HttpContentStore,
        wishes: Wishes,
    ) -> None:
        super().__init__(settings, rpc, reader, content)
        self._chain_id = chain_id
        self._wishes = wishes
        self._senders: dict[Role, AccountSender] = {}

    @property
    def sender(self) -> AccountSender:
        """The requester's account; its key is read on first use. Raises ConfigurationError."""
        return self._sender_of("requester")

    @property
    def sent(self) -> list[bytes]:
        """Hashes of the transactions of this client that a node took, or may have taken."""
        return [one for sender in self._senders.values() for one in sender.sent]

    async def upload(self, pictures: Picture | Cid | Iterable[Picture | Cid]) -> list[Cid]:
        """Pin pictures, given as bytes or by path; their CIDs. A CID stands for what is pinned already.

        Every file is read before one is pinned. Raises SibylError for what is neither a file nor a CID, cannot be read
        or is larger than ``image_max_bytes``.
        """
        several = [pictures] if isinstance(pictures, Picture | Cid) else list(pictures)
        found = [await asyncio.to_thread(_read, one, self.settings.image_max_bytes) for one in several]
        new = [one for one in found if isinstance(one, bytes)]
        pinned = iter(await self.content.add(new) if new else ())
        return [one if isinstance(one, Cid) else next(pinned) for one in found]

    async def quote(self, model: ModelLike = None, *, pictures: int = 1) -> Price:
        """What asking a model about so many pictures costs now, gas not included."""
        listed = await self._listed(model)
        on_chain = listed.on_chain
        payment = await self.reader.quote(on_chain.model_id)
        return Price(on_chain.model_id, listed.name, payment, pictures, on_chain.token)

    async def request(
        self,
        model: ModelLike,
        images: Picture | Cid | Iterable[Picture | Cid],
        *,
        provider: str | None = None,
        deadline: float = DEFAULT_DEADLINE,
        max_price: int | None = None,
        from_balance: bool = False,
    ) -> list[Asked]:
        """Ask a model about pictures in one transaction that is signed here; a request for each, in their order.

        Pictures that are no CIDs are uploaded first. ``deadline`` in seconds from now, after which the money comes
        back. ``max_price`` bounds what each costs, in wei or in smallest parts of the model's token; unless it is
        given that is 0.01 ether, and a model priced in a token is refused. ``provider`` names who shall compute them.
        Raises TooDear and SibylError before anything is paid.
        """
        on_chain = (await self._listed(model)).on_chain
        max_price = _limit(on_chain, max_price)
        cids = await self.upload(images)
        if not cids:
            raise SibylError("there is no picture to ask about", remedy="Give at least one.")
        for cid in cids if provider is not None else ():
            await self._wishes.wish(self.sender, cid, str(provider))
        return await self.ask(on_chain, cids, deadline=deadline, max_price=max_price, from_balance=from_balance)

    async def ask(
        self,
        model: OnChainModel,
        images: Sequence[Cid],
        *,
        deadline: float = DEFAULT_DEADLINE,
        max_price: int | None = None,
        from_balance: bool = False,
    ) -> list[Asked]:
        """Ask one model about pictures in one transaction, from the account's balance if so chosen.

        ``max_price`` bounds each as for ``request``. Raises TooDear and SibylError before anything is sent.
        """
        window = await self.reader.cancel_window()
        if deadline < window + SHORTEST_DEADLINE:
            later = 2 * window + DEFAULT_DEADLINE
            raise SibylError(
                f"nobody begins before the {window} s are over in which a request can be cancelled, so a deadline "
                f"{deadline:g} s from now would pass unanswered",
                remedy=f"Choose a later one: deadline={later} (command line: --deadline {later}).",
            )
        if model.token is not None and not from_balance:
            raise SibylError(
                f"model {model.model_id} is priced in the token {model.token}",
                remedy="Put tokens into your balance with the coordinator's depositToken, then give from_balance=True "
                "(command line: --from-balance).",
            )
        max_price = _limit(model, max_price)
        until, address = await self.deadline(deadline), self.reader.address
        if len(images) == 1 and not from_balance:
            ask = Ask(model.model_id, images[0], until)
            return [await self.sender.request_inference(address, ask, max_price=max_price)]
        return await self.sender.request_many(
            address, model.model_id, images, until, max_price=max_price, from_balance=from_balance
        )

    async def deadline(self, seconds: float) -> int:
        """A deadline that many seconds after the chain's own time (or this machine's, whichever is later)."""
        return int(max(time.time(), (await self.reader.head()).timestamp) + seconds)

    async def refund(self, request: RequestLike) -> bytes:
        """Send the money of an unanswered request back after its deadline; the transaction's hash."""
        return (await self.sender.refund(self.reader.address, id_of(request))).transaction_hash

    async def cancel(self, request: RequestLike) -> bytes:
        """Take a request of this account back while that is possible; the transaction's hash.

        Raises UnknownRequest, NotYours and NotCancellable before anything is sent.
        """
        request_id = id_of(request)
        if await self.reader.cancel_window() == 0:
            raise NotCancellable(
                "this coordinator has no cancel window",
                remedy="After its deadline: refund() (command line: `sibyl refund ID`).",
            )
        asked, settled = await self.history(request_id)
        if asked is None:
            raise unknown(request_id)
        if settled is not None:
            raise NotCancellable(
                f"0x{request_id.hex()} has ended: {settled.status.name.lower()}",
                remedy="See outcome() (command line: `sibyl result ID`).",
            )
        if asked.request.requester != self.sender.address:
            raise NotYours(
                f"{asked.request.requester} made 0x{request_id.hex()}, not {self.sender.address}",
                remedy="Use the key of the account that asked.",
            )
        return (await self.sender.cancel(self.reader.address, asked.request)).transaction_hash

    async def deposit(self, amount: int) -> tuple[str, int]:
        """Put ``amount`` wei into the requester's balance; its address and the balance then."""
        await self.sender.deposit(self.reader.address, amount)
        return self.sender.address, await self.reader.balance_of(None, self.sender.address)

    async def withdraw(self, role: Role, token: str | None = None) -> tuple[str, int]:
        """Pull an account's whole balance in a token (None: ether); its address and what was paid out.

        Raises NothingToWithdraw before anything is sent.
        """
        sender = self._sender_of(role)
        if await self.reader.balance_of(token, sender.address) == 0:
            raise NothingToWithdraw(
                f"{sender.address} has no balance at the coordinator",
                remedy="Money comes into it with answered requests, refunds and deposits.",
            )
        return sender.address, await sender.withdraw(self.reader.address, token=token)

    async def withdraw_earnings(self, role: Role, model_id: int) -> tuple[str, int]:
        """Pull what a model has earned, as its payout account; that account and what was paid out in its token.

        Raises NothingToWithdraw and NotYours before anything is sent.
        """
        model, sender = await self.registered(model_id), self._sender_of(role)
        if model.payout != sender.address:
            raise NotYours(
                f"what model {model_id} earns is {model.payout}'s, not {sender.address}'s",
                remedy="Use that account's key (SIBYL_PUBLISHER_KEY_FILE), or name its role (command line: --role).",
            )
        if await self.reader.earnings_of(model_id) == 0:
            raise NothingToWithdraw(
                f"model {model_id} has earned nothing since the last time", remedy="Wait for answered requests."
            )
        return sender.address, await sender.withdraw_earnings(self.reader.address, model_id)

    def _sender_of(self, role: Role) -> AccountSender:
        if role not in self._senders:
            account = account_of(role, self.settings)
            self._senders[role] = AccountSender(self.rpc, account, self._chain_id, fee_policy(self.settings))
        return self._senders[role]

    async def _listed(self, model: ModelLike) -> ListedModel:
        if isinstance(model, ListedModel):
            return model
        if isinstance(model, OnChainModel):
            model = model.model_id
        return await self.model(model if model is None else str(model))


def _limit(model: OnChainModel, max_price: int | None) -> int:
    """What a picture may cost at most. Raises SibylError where none is given for a token."""
    if max_price is not None:
        return max_price
    if model.token is not None:
        raise SibylError(
            f"model {model.model_id} is priced in the token {model.token}, for which no limit suits everyone",
            remedy="Give max_price in smallest parts of the token (command line: --max-price).",
        )
    return DEFAULT_MAX_PRICE


def _read(picture: Picture | Cid, limit: int) -> bytes | Cid:
    """What is to be pinned, or the CID of what is pinned. Raises SibylError."""
    name = "the picture"
    if isinstance(picture, Cid):
        return picture
    if isinstance(picture, bytes | bytearray | memoryview):
        data = bytes(picture)
    else:
        name = f"{str(picture)[:_LONGEST_NAME]!a}"
        try:
            if not Path(picture).is_file():
                return Cid.parse(str(picture))
            with Path(picture).open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise SibylError(f"{name} cannot be read: {error.strerror}", remedy=_WHAT_IS_READ) from None
        except ValueError:
            raise SibylError(f"{name} is neither a file nor a CID", remedy=_WHAT_IS_READ) from None
    if len(data) > limit:
        raise SibylError(f"{name} has more than {limit:,} bytes", remedy="Send a smaller picture.")
    return data
