"""The composition root: the only place that names adapters. It wires the duties together and keeps them running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from oracle.chain.checks import verify_deployment, verify_operator
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.deployment import account_of, coordinator_address, fee_policy
from oracle.chain.rpc import Rpc
from oracle.chain.scanner import Scanner
from oracle.chain.sender import EthereumReportSender
from oracle.compute.backends import golem_backend, local_backend
from oracle.content.drawings import ChildProcessIllustrator
from oracle.content.images import ChildProcessInspector
from oracle.content.ipfs import IpfsContentStore
from oracle.content.spool import DirectorySpool
from oracle.domain import ServableModel
from oracle.errors import Retryable, RpcUnavailable, SibylError
from oracle.pipeline.batcher import BatchLimits
from oracle.pipeline.clock import ChainClock
from oracle.pipeline.duty import Bell, Duty, keep
from oracle.pipeline.follower import Follower
from oracle.pipeline.intake import Intake
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.runner import Runner
from oracle.pipeline.settler import Settler
from oracle.pipeline.sweeper import EVERY as SWEEP
from oracle.pipeline.sweeper import Sweeper
from oracle.pipeline.trust import TrustedBackend, TrustPolicy
from oracle.pipeline.worth import Worth
from oracle.ports import Clock, ComputeBackend, ProviderLedger
from oracle.settings import Settings
from oracle.store import DirectoryWishes, SqliteRequestStore
from oracle.telemetry import logger

log = logger("service")

URGENT = 15.0  # seconds for compute under which a request runs alone, lest its time-out fail its neighbours
SKEW = 2.0  # seconds by which this machine's clock may be ahead of the chain's
DRAWERS = 2  # processes that draw results: one large picture does not hold up all others
LOOK = 1.0  # seconds after which a duty looks for work that no bell announced (retries that came due)


@asynccontextmanager
async def oracle(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A started oracle; the value waits for ever, or raises the ConfigurationError that ended a duty.

    Raises ConfigurationError (its leaves say what is wrong and what to do) when a start-up check fails.
    """
    address = coordinator_address(settings)
    account = account_of("operator", settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        rpc = Rpc(settings.rpc_url, timeout=settings.rpc_timeout)
        stack.push_async_callback(rpc.close)
        chain_id = await verify_deployment(rpc, address, settings.chain_id)
        await verify_operator(rpc, address, account.address)
        chain = CoordinatorReader(rpc, address, chain_id)
        window = await chain.cancel_window()
        # A cancel of the window's last block is seen at the next look at the chain.
        hold = window + SKEW + settings.poll_interval if window else 0.0
        store = SqliteRequestStore(settings.database, hold=hold)
        stack.push_async_callback(store.close)
        genesis = await chain.block(0)
        if genesis is None:
            raise RpcUnavailable(f"{rpc.host} has no block 0", remedy="Use a node that keeps the chain's headers.")
        await store.bind(chain_id, address, genesis.hash)

        content = IpfsContentStore(settings.ipfs_api, threads=settings.intake_concurrency + 2)
        stack.push_async_callback(content.close)
        inspector = ChildProcessInspector(
            children=settings.image_checkers, max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels
        )
        stack.push_async_callback(inspector.close)
        illustrator = (
            ChildProcessIllustrator(children=DRAWERS, max_pixels=settings.image_max_pixels)
            if settings.drawings
            else None
        )
        if illustrator is not None:
            stack.push_async_callback(illustrator.close)
        spool = DirectorySpool(settings.spool)
        clock = ChainClock()
        backend, prepare = _backend(settings, store.ledger, clock)
        stack.push_async_callback(backend.close)
        await backend.start()

        sender = EthereumReportSender(rpc, account, address, chain_id, fee_policy(settings))
        models = ModelCatalogue(
            chain=chain,
            content=content,
            spool=DirectorySpool(settings.spool / "weights"),
            backend=backend,
            clock=clock,
            timeout=settings.fetch_timeout,
            weights_limit=settings.weights_max_bytes,
        )
        stack.push_async_callback(models.close)
        worth = Worth(models, settings.token_prices)
        settler = Settler(
            store=store,
            chain=chain,
            sender=sender,
            spool=spool,
            worth=worth,
            clock=clock,
            confirmations=settings.confirmations,
            items=settings.report_items,
            in_flight=settings.reports_in_flight,
            replace_after=settings.replace_after,
            posting_time=settings.deadline_margin / 2,
            cost_ratio=settings.max_cost_ratio,
        )
        to_intake, to_runner = Bell(), Bell()
        intake = Intake(
            store=store,
            content=content,
            inspector=inspector,
            spool=spool,
            models=models,
            worth=worth,
            clock=clock,
            bell=to_intake,
            downstream=to_runner,
            failures=settler.bell,
            concurrency=settings.intake_concurrency,
            max_bytes=settings.image_max_bytes,
            timeout=settings.fetch_timeout,
            margin=settings.deadline_margin,
            budget=settings.intake_bytes,
        )
        stack.push_async_callback(intake.close)
        runner = Runner(
            store=store,
            backend=backend,
            content=content,
            illustrator=illustrator,
            spool=spool,
            models=models,
            wishes=DirectoryWishes(settings.wishes),
            clock=clock,
            bell=to_runner,
            downstream=settler.bell,
            upstream=to_intake,
            coming=lambda: intake.coming,
            limits=BatchLimits(
                settings.batch_items,
                settings.batch_bytes,
                settings.linger,
                slack=4 * settings.deadline_margin,
                urgent=settings.deadline_margin + min(URGENT, 2 * settings.deadline_margin),
            ),
            timeout=settings.compute_timeout,
            margin=settings.deadline_margin,
            max_attempts=settings.max_attempts,
        )
        stack.push_async_callback(runner.close)
        await runner.recover()
        scanner = Scanner(
            chain,
            store,
            confirmations=settings.confirmations,
            start_block=settings.start_block,
            span=settings.scan_span,
        )
        follower = Follower(scanner=scanner, clock=clock, downstream=(to_intake, settler.bell))
        duties: list[tuple[Duty, Callable[[], float]]] = [
            (follower, lambda: settings.poll_interval),
            (intake, lambda: LOOK),
            (runner, lambda: LOOK),
            (Sweeper(store=store, spool=spool, models=models), lambda: SWEEP),
            (settler, lambda: min(LOOK, settings.poll_interval) if settler.in_flight else LOOK),
        ]
        tasks = [asyncio.create_task(keep(duty, idle=idle), name=duty.name) for duty, idle in duties]
        stack.push_async_callback(_cancel, tasks)
        if settings.default_model is not None:
            warming = asyncio.create_task(_warm_up(settings.default_model, models, prepare), name="warm-up")
            stack.push_async_callback(_cancel, [warming])
        log.info("the oracle runs", extra={"chain": chain_id, "coordinator": address, "operator": account.address})

        async def ended() -> None:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

        yield ended


def _backend(
    settings: Settings, ledger: ProviderLedger, clock: Clock
) -> tuple[ComputeBackend, Callable[[ServableModel], None]]:
    """The compute backend, and how it is told of a model that will be asked for."""
    if settings.backend == "local":
        local = local_backend(settings)
        return local, local.prepare
    golem = golem_backend(settings, ledger)
    trusted = TrustedBackend(
        golem,
        ledger=ledger,
        spool=DirectorySpool(settings.spool / "known"),
        clock=clock,
        policy=TrustPolicy(settings.redundancy, settings.known_answers),
    )
    return trusted, golem.prepare


async def _warm_up(model_id: int, models: ModelCatalogue, prepare: Callable[[ServableModel], None]) -> None:
    """Have the workers load the deployment's own model before anyone asks for it."""
    while True:
        try:
            prepare(await models.resolve(model_id))
        except Retryable:
            await asyncio.sleep(LOOK)
        except SibylError as error:
            log.info("model %d is not loaded ahead: %s", model_id, error)
            return
        else:
            return


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
