"""What a payment is worth in wei, so that it can be compared with what gas costs."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from oracle.domain import InferenceRequest
from oracle.pipeline.models import ModelCatalogue
from oracle.telemetry import logger

log = logger("worth")


class Worth:
    """Values payments. ``prices`` gives wei for the smallest part of each ERC-20 that the operator takes."""

    def __init__(self, models: ModelCatalogue, prices: Mapping[str, Fraction]) -> None:
        self._models, self._prices = models, prices
        self._told: set[str] = set()

    async def of(self, request: InferenceRequest) -> int | None:
        """Wei that the request's payment is worth; None when it was made in a token without a price.

        Raises RpcUnavailable.
        """
        token = await self._models.token(request.model_id)
        if token is None:
            return request.payment
        price = self._prices.get(token)
        if price is not None:
            return int(price * request.payment)
        if token not in self._told:
            self._told.add(token)
            log.warning("requests paid in the token %s are left to their refund: SIBYL_TOKEN_PRICES lacks it", token)
        return None
