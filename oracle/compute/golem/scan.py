"""A look at the market: a demand that is put up, read for a while, and taken down again; nothing is agreed."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

from yapapi.config import ApiConfig
from yapapi.props import Activity, NodeInfo
from yapapi.props.builder import DemandBuilder
from yapapi.rest import Configuration
from yapapi.rest import Market as MarketApi

from oracle.compute.golem.market import LINEAR, Market
from oracle.compute.golem.package import ImagePackage
from oracle.compute.golem.terms import GolemTerms, Image

MOST_OFFERS = 500
_HORIZON = timedelta(minutes=30)
_TOKENS = {"mainnet": "glm", "polygon": "glm"}


async def scan(terms: GolemTerms, image: Image, market: Market, *, seconds: float) -> int:
    """Note every offer for an image that comes within so many seconds; how many did. Raises what yagna raises."""
    demand = DemandBuilder()  # type: ignore[no-untyped-call]
    demand.add(Activity(expiration=datetime.now(UTC) + _HORIZON, multi_activity=True))
    demand.add(NodeInfo(subnet_tag=terms.subnet))
    if terms.subnet:
        demand.ensure(f"(golem.node.debug.subnet={terms.subnet})")
    token = _TOKENS.get(terms.payment_network, "tglm")
    platform = f"{terms.payment_driver}-{terms.payment_network}-{token}"
    demand.ensure(f"(golem.com.payment.platform.{platform}.address=*)")
    demand.ensure(LINEAR)
    await ImagePackage(image, terms.memory_gib).decorate_demand(demand)

    seen: set[str] = set()
    config = Configuration(ApiConfig(app_key=terms.app_key, api_url=terms.api_url))
    async with config.market() as client:
        subscription = await MarketApi(client).subscribe(demand.properties, demand.constraints)
        async with subscription:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    async for proposal in subscription.events():
                        seen.add(proposal.issuer)
                        market.seen(proposal.issuer, proposal.props)
                        if len(seen) >= MOST_OFFERS:
                            break
    return len(seen)
