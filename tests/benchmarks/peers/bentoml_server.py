"""BentoML with the documents in memory: by its own API, and by a plain route of an ASGI app that it mounts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DOCUMENTS = json.loads(Path(os.environ["DOCUMENTS"]).read_bytes())


async def document(request: Request) -> Response:
    """Encoded anew for each request, as from any source that can change."""
    request_id = request.path_params["request_id"]
    if request_id not in DOCUMENTS:
        raise HTTPException(404)
    return Response(json.dumps(DOCUMENTS[request_id]), media_type="application/json")


app = Starlette(routes=[Route("/requests/{request_id}", document)])


@bentoml.asgi_app(app, path="/v1")
@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Documents:
    """Looks a document up in place of computing it."""

    @bentoml.api(route="/predict")
    async def predict(self, id: str) -> dict[str, Any]:  # noqa: A002 - the field's name in the request
        return DOCUMENTS[id]
