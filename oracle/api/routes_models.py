"""Models, their example pictures, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from oracle.api import schemas, shapes
from oracle.api.answers import answer, problems, ready, unless_known
from oracle.api.desk import Desk, Lately
from oracle.api.problems import Problem
from oracle.api.registry import KnownModel
from oracle.errors import StoreError
from oracle.views import ModelSpeed

ModelNumber = Annotated[int, Path(ge=1, lt=2**63, description="The model's number.", examples=[1])]
GAS_ONE = 60_000
GAS_OF_MANY = (30_000, 31_000)  # of a transaction, and of each picture in it
GAS_TOKEN = 25_000  # more where a token is paid
MOST_GAS = 2_000_000
_LATELY = 2.0  # seconds for which a quote is not asked again
_FIGURES = 5.0


def router(desk: Desk) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["models"])
    world, registry = desk.world, desk.registry
    speeds: Lately[Mapping[int, ModelSpeed]] = Lately(_FIGURES)
    quotes: Lately[int] = Lately(_LATELY)

    async def measured() -> Mapping[int, ModelSpeed]:
        try:
            return await speeds.get("all", world.reads.speeds)
        except StoreError:
            return {}  # a registry without an oracle beside it is still worth listing

    async def symbol() -> str:
        return shapes.coin((await world.chain.deployment()).chain_id)

    def shape(known: KnownModel, found: Mapping[int, ModelSpeed], coin: str) -> dict[str, object]:
        example = bool(world.examples and known.manifest and world.examples.has(known.manifest))
        return shapes.model(known, found.get(known.on_chain.model_id), example=example, symbol=coin)

    @routes.get("/models", response_model=schemas.Models, responses=problems(503))
    async def list_models(request: Request) -> Response:
        """Every model of the registry, in the order of publication."""
        models, found, coin = await asyncio.gather(registry.models(), measured(), symbol())
        return answer(request, {"items": [shape(known, found, coin) for known in models], "next": None})

    @routes.get("/models/{number}", response_model=schemas.ModelDetail, responses=problems(404, 422, 503))
    async def one_model(request: Request, number: ModelNumber) -> Response:
        """One model with its whole manifest."""
        known, found, coin = await asyncio.gather(registry.model(number), measured(), symbol())
        manifest = dict(known.manifest.document) if known.manifest else None
        return answer(request, {**shape(known, found, coin), "manifest": manifest})

    @routes.get(
        "/models/{number}/example",
        response_class=Response,
        responses={
            200: {
                "description": "A picture of the kind that the model reads.",
                "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            },
            **problems(404, 422, 503),
        },
    )
    async def example(request: Request, number: ModelNumber) -> Response:
        """An example picture, drawn here."""
        known = await registry.model(number)
        picture = await world.examples.picture(known.manifest) if world.examples and known.manifest else None
        if picture is None:
            raise Problem(
                404, "no-example", "No example", "there is no example for this model", remedy="Use a picture of yours."
            )
        return unless_known(request.scope, ready(picture, kind="image/png", cache="public, max-age=3600"))

    @routes.get("/quote", response_model=schemas.Quote, responses=problems(404, 422, 503))
    async def quote(
        request: Request,
        model: Annotated[int, Query(ge=1, lt=2**63, description="The model's number.", examples=[1])],
        callback_gas: Annotated[int, Query(ge=0, le=MOST_GAS, description="Gas for the caller's callback.")] = 0,
        pictures: Annotated[int, Query(ge=1, le=1000, description="How many, asked in one transaction.")] = 1,
    ) -> Response:
        """What pictures cost now. The coordinator itself says so; the gas is an estimate."""
        known = await registry.model(model)
        each = await quotes.get((model, callback_gas), lambda: world.chain.quote(model, callback_gas))
        base, more = GAS_OF_MANY
        gas = GAS_ONE if pictures == 1 else base + more * pictures
        token = known.on_chain.token
        speed = (await measured()).get(model)
        facts = {
            "model": model,
            "callback_gas": callback_gas,
            "pictures": pictures,
            "payment": str(each),
            "total": str(each * pictures),
            "token": token,
            "gas_estimate": gas + (GAS_TOKEN if token is not None else 0),
            "usual_seconds": round(speed.usual_seconds, 3) if speed and speed.usual_seconds is not None else None,
        }
        return answer(request, facts)

    return routes
