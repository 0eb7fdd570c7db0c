"""LitServe with the documents in memory: by its own API, and by a plain route on its FastAPI app."""

import argparse
import json
from pathlib import Path
from typing import Any

import litserve
from fastapi import HTTPException
from fastapi.responses import Response


class Documents(litserve.LitAPI):
    """Looks a document up in place of computing it."""

    def __init__(self, file: str) -> None:
        super().__init__(api_path="/predict")
        self._file = file

    def setup(self, device: str) -> None:
        self._documents = json.loads(Path(self._file).read_bytes())

    def decode_request(self, request):  # without an annotation LitServe hands over the JSON
        return request["id"]

    def predict(self, x: str) -> dict[str, Any]:
        return self._documents[x]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--documents", required=True)
    chosen = parser.parse_args()
    server = litserve.LitServer(Documents(chosen.documents), accelerator="cpu", workers_per_device=1, fast_queue=True)
    # Encoded anew for each request, as from any source that can change.
    documents = json.loads(Path(chosen.documents).read_bytes())

    @server.app.get("/v1/requests/{request_id}")
    async def document(request_id: str) -> Response:
        if request_id not in documents:
            raise HTTPException(404)
        return Response(json.dumps(documents[request_id]), media_type="application/json")

    server.run(host="127.0.0.1", port=chosen.port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
