"""Composition root of the API: names the adapters and serves the app. Nothing of the oracle runs in here."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import uvicorn
from eth_account.signers.local import LocalAccount
from eth_utils.currency import to_wei

from oracle.api import routes_uploads
from oracle.api.app import create_app
from oracle.api.connections import EACH, bounded
from oracle.api.ports import Deployment, Holder, Paid, SignedWish, TokenFacts, World, Writes
from oracle.chain.account import AccountSender
from oracle.chain.checks import verify_deployment
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.deployment import account_of, coordinator_address, fee_policy
from oracle.chain.fees import FeePolicy
from oracle.chain.rpc import Rpc
from oracle.chain.tokens import read_token
from oracle.chain.wishes import Wish
from oracle.content.images import ChildProcessInspector
from oracle.content.ipfs import IpfsContentStore
from oracle.content.web import WebFetcher
from oracle.domain import BlockRef, Cid, ModelManifest, OnChainModel
from oracle.errors import ConfigurationError, PortTaken, RpcUnavailable, SibylError, WishNotSigned
from oracle.gateway import DEADLINE, Books, Gateway, WishBox
from oracle.settings import Settings
from oracle.store import DirectoryWishes, SqliteReads
from oracle.store.gateway import SqliteGatewayStore
from oracle.store.uploads import SqliteUploadBook
from oracle.telemetry import logger

KEEP_ALIVE = 20  # seconds that an idle connection is kept
TIDY_EVERY = 60.0  # seconds between two looks at what the gateway has open
GRACE = 3  # seconds that answers under way have at the end
WISH_AGE = 600  # seconds from the signature within which a wish can be left
WISH_AHEAD = 60  # seconds that the clock of whoever signs may be ahead
_BACKLOG = 512

log = logger("api")


@asynccontextmanager
async def world(settings: Settings) -> AsyncIterator[World]:
    """Everything that the API reads and writes. An endpoint that does not answer now is asked again later.

    Raises ConfigurationError, WrongChain.
    """
    async with AsyncExitStack() as stack:
        chain = _Chain(settings)
        stack.push_async_callback(chain.close)
        try:
            await chain.deployment()
        except RpcUnavailable as error:
            log.warning("the chain cannot be read yet: %s", error)
        reads = SqliteReads(settings.database, coordinator=coordinator_address(settings))
        stack.push_async_callback(reads.close)
        content = IpfsContentStore(settings.ipfs_api, threads=12)
        stack.push_async_callback(content.close)
        open_content = IpfsContentStore(settings.ipfs_api, threads=12)
        stack.push_async_callback(open_content.close)
        writes = await _writes(settings, chain, stack)
        yield World(
            reads=reads,
            chain=chain,
            content=content,
            open_content=open_content,
            examples=_Examples(),
            gateway=writes.payer.address if writes.payer is not None else None,
            writes=writes,
        )


async def _writes(settings: Settings, chain: _Chain, stack: AsyncExitStack) -> Writes:
    """What takes part in uploads, and in asking where there is an account that pays."""
    folder = settings.data_dir / "uploads"
    await asyncio.to_thread(routes_uploads.clear, folder)
    pins = IpfsContentStore(settings.ipfs_api, threads=8)
    stack.push_async_callback(pins.close)
    inspector = ChildProcessInspector(
        children=settings.image_checkers, max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels
    )
    stack.push_async_callback(inspector.close)
    wishes = DirectoryWishes(settings.wishes)
    payer = None
    if settings.gateway_key is not None or settings.gateway_key_file is not None:
        payer = _Payer(settings, chain, wishes)
        stack.push_async_callback(payer.close)
    book = SqliteUploadBook(settings.uploads_database)
    stack.push_async_callback(book.close)
    return Writes(
        pins, book, inspector, WebFetcher(private=settings.url_private), _Wishes(chain, wishes), folder, payer
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """The API on its address: the address, and something to wait on until it ends.

    Raises PortTaken, ConfigurationError, WrongChain.
    """
    async with world(settings) as known:
        listening = listen(settings.api_host, settings.api_port)
        app = create_app(known, settings)
        server = _Server(
            uvicorn.Config(
                app,
                # Those who come through a proxy of ours share its address.
                http=bounded(each=None if settings.api_proxies else EACH),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
                backlog=_BACKLOG,
            )
        )
        task = asyncio.create_task(server.serve(sockets=[listening]), name="api")
        try:
            while not server.started:
                if task.done():
                    task.result()
                    raise ConfigurationError("the API did not start", remedy="Its log says why.")
                await asyncio.sleep(0.01)
            host, port = listening.getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            log.info("the API serves", extra={"url": url})

            async def ended() -> None:
                await asyncio.shield(task)

            yield url, ended
        finally:
            app.state.desk.pulse.end()
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)
            listening.close()


class _Server(uvicorn.Server):
    """Leaves signals to the command that runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises PortTaken, ConfigurationError."""
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listening = socket.socket(family, kind)
    except OSError as error:
        raise ConfigurationError(
            f"the API cannot listen on {host}: {error.strerror}", remedy="Give another address: SIBYL_API_HOST."
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} of {host} is in use",
                remedy="Stop what listens there, or choose another: --api-port, SIBYL_API_PORT; 0 takes a free one.",
            ) from error
        raise ConfigurationError(
            f"the API cannot listen on {host}, port {port}: {error.strerror}",
            remedy="Give another address: SIBYL_API_HOST, SIBYL_API_PORT.",
        ) from error
    return listening


class _Chain:
    """``api.ports.ChainView`` on one RPC endpoint, checked before it is believed."""

    def __init__(self, settings: Settings) -> None:
        self._address, self._expected = coordinator_address(settings), settings.chain_id
        self._rpc = Rpc(settings.rpc_url, timeout=settings.rpc_timeout)
        self._known: tuple[Deployment, CoordinatorReader] | None = None

    async def deployment(self) -> Deployment:
        """What the coordinator's rules are; remembered."""
        return (await self.deployed())[0]

    async def head(self) -> BlockRef:
        """The newest block."""
        return await (await self.deployed())[1].head()

    async def models(self) -> Sequence[OnChainModel]:
        """Every registered model by number."""
        return await (await self.deployed())[1].models()

    async def quote(self, model_id: int, callback_gas: int) -> int:
        """What one request costs now, in the model's token. Raises CallReverted where it is not sold."""
        return await (await self.deployed())[1].quote(model_id, callback_gas)

    async def token(self, address: str) -> TokenFacts:
        """What an ERC-20 says of itself."""
        return TokenFacts(*await read_token(self._rpc, address))

    async def signed(self, wish: SignedWish) -> bool:
        """Whether that account signed that wish."""
        deployment = (await self.deployed())[0]
        said = Wish(
            deployment.chain_id, deployment.coordinator, wish.requester, wish.image_cid, wish.provider, wish.signed_at
        )
        return await said.signed(self._rpc, wish.signature)

    async def account(self, account: LocalAccount, policy: FeePolicy, *, replace_after: float) -> AccountSender:
        """A sender of that account's transactions, which follows each until an answer would come too late."""
        chain_id = (await self.deployed())[0].chain_id
        return AccountSender(
            self._rpc, account, chain_id, policy, receipt_timeout=DEADLINE, replace_after=replace_after
        )

    async def close(self) -> None:
        """Let go of the connection."""
        await self._rpc.close()

    async def deployed(self) -> tuple[Deployment, CoordinatorReader]:
        """The deployment and who reads it. Raises RpcUnavailable, WrongChain."""
        if self._known is None:
            chain_id = await verify_deployment(self._rpc, self._address, self._expected)
            reader = CoordinatorReader(self._rpc, self._address, chain_id)
            self._known = Deployment(chain_id, reader.address, await reader.cancel_window()), reader
        return self._known


class _Wishes:
    """``api.ports.Wishes`` of those who signed them."""

    def __init__(self, chain: _Chain, folder: DirectoryWishes) -> None:
        self._chain, self._folder = chain, folder

    async def take(self, wish: SignedWish) -> None:
        """Leave it, if the account itself signed it a short while ago."""
        if not -WISH_AHEAD <= time.time() - wish.signed_at <= WISH_AGE:
            raise WishNotSigned(
                f"a choice of a provider counts for {WISH_AGE // 60} minutes from when it is signed",
                remedy="Sign it again; check this computer's clock.",
            )
        if not await self._chain.signed(wish):
            raise WishNotSigned(
                "the signature is not this account's", remedy="Sign with the account that asks, or name no provider."
            )
        await self._folder.sign(wish.requester, wish.image_cid, wish.provider, wish.signed_at)


class _Payer(Books):
    """``api.ports.Payer`` whose gateway begins with the first who pays: the chain may not answer yet at the start.

    Raises ConfigurationError for a key that cannot be read, StoreError for books that cannot.
    """

    def __init__(self, settings: Settings, chain: _Chain, wishes: WishBox) -> None:
        self._settings, self._chain, self._wishes = settings, chain, wishes
        self._account = account_of("gateway", settings)
        open_limit = _wei(settings.gateway_open_day) if settings.gateway_open else None
        super().__init__(SqliteGatewayStore(settings.gateway_database), open_limit)
        self._gateway: asyncio.Task[Gateway] | None = None
        self._tidying = asyncio.create_task(self._tidy(), name="gateway")

    @property
    def address(self) -> str:
        """The account that pays."""
        return str(self._account.address)

    async def affordable(self, holder: Holder, model_id: int) -> int:
        """What the model costs, in wei, if it can be asked now."""
        return await (await self._ready()).affordable(holder, model_id)

    async def ask(
        self, holder: Holder, model_id: int, image_cid: Cid, *, provider: str = "", idempotency: str | None = None
    ) -> Paid:
        """Pay and ask; the same idempotency key again gives the same request."""
        gateway = await self._ready()
        return await gateway.ask(holder, model_id, image_cid, provider=provider, idempotency=idempotency)

    async def begun(self, holder: Holder, model_id: int, image_cid: Cid, idempotency: str) -> Paid | None:
        """The request that this idempotency key gave already, or None."""
        return await (await self._ready()).begun(holder, model_id, image_cid, idempotency)

    async def close(self) -> None:
        """Wait for what is on its way, and close the books."""
        self._tidying.cancel()
        await asyncio.gather(self._tidying, return_exceptions=True)
        if self._gateway is not None:
            if self._begun():
                await self._gateway.result().close()
            self._gateway.cancel()
            await asyncio.gather(self._gateway, return_exceptions=True)
        await self._store.close()

    async def _tidy(self) -> None:
        while True:
            try:
                await (await self._ready()).tidy()
            except SibylError as error:
                log.info("the gateway's open requests wait: %s", error)
            except Exception:
                log.exception("the gateway's open requests wait")
            await asyncio.sleep(TIDY_EVERY)

    async def _ready(self) -> Gateway:
        """One try serves all who wait for it; what failed is tried again by whoever comes next."""
        if self._gateway is None or (self._gateway.done() and not self._begun()):
            self._gateway = asyncio.create_task(self._begin(), name="gateway begins")
        return await asyncio.shield(self._gateway)

    def _begun(self) -> bool:
        task = self._gateway
        return task is not None and task.done() and not task.cancelled() and task.exception() is None

    async def _begin(self) -> Gateway:
        settings = self._settings
        known, reader = await self._chain.deployed()
        genesis = await reader.block(0)
        if genesis is None:
            raise RpcUnavailable("the endpoint has no block 0", remedy="Use a node that keeps the chain's headers.")
        await self._store.bind(known.chain_id, reader.address, genesis.hash)
        sender = await self._chain.account(self._account, fee_policy(settings), replace_after=settings.replace_after)
        return Gateway(
            reader=reader,
            sender=sender,
            store=self._store,
            wishes=self._wishes,
            total_limit=_wei(settings.gateway_total_day),
        )


def _wei(ether: Decimal) -> int:
    return int(to_wei(ether, "ether"))


class _Examples:
    """``api.ports.Examples`` by our own pen; each is drawn once."""

    def __init__(self) -> None:
        self._drawn: dict[str, asyncio.Task[bytes | None]] = {}

    def has(self, manifest: ModelManifest) -> bool:
        """Whether there is one for such a model."""
        return self._kind(manifest) is not None

    async def picture(self, manifest: ModelManifest) -> bytes | None:
        """A PNG, or None."""
        kind = self._kind(manifest)
        if kind is None:
            return None
        if kind not in self._drawn:
            self._drawn[kind] = asyncio.create_task(asyncio.to_thread(_DRAWN[kind]))
        return await asyncio.shield(self._drawn[kind])

    def _kind(self, manifest: ModelManifest) -> str | None:
        if manifest.document["input"]["fit"] == "digit":
            return "digit"
        return manifest.name if manifest.name in _DRAWN else None


def _digit() -> bytes | None:
    from provider_images.mnist.draw import draw_digit

    out = io.BytesIO()
    draw_digit(7, _SEED, style="mnist").save(out, "PNG")
    return out.getvalue()


def _scene() -> bytes | None:
    try:
        import numpy as np
        from PIL import Image

        from provider_images.mask_rcnn import scenes
        from provider_images.mnist.draw import draw_digit
    except ImportError:
        return None  # NumPy comes with what providers need, which need not be here
    drawn = [draw_digit(number % 10, _SEED + number, style="mnist").convert("L") for number in range(40)]
    digits = np.stack([np.asarray(page) for page in drawn])
    made = scenes.scene(digits, np.arange(40) % 10, _SEED, _SCENE)
    out = io.BytesIO()
    Image.fromarray(made.picture).save(out, "PNG")
    return out.getvalue()


_SEED = 3_000_000  # training draws from seeds below this
_SCENE = 37
_DRAWN: dict[str, Callable[[], bytes | None]] = {"digit": _digit, "mask-rcnn-shapes": _scene}


def page_built(folder: Path) -> bool:
    """Whether the page is there to be served."""
    return (folder / "index.html").is_file()
