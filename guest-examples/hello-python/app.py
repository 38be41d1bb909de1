"""A `wasi:http` 0.2 handler in Python: an order in, its total out.

Each request gets a fresh interpreter, whose imports were done when the component was built.
"""

import decimal
import json

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, Method_Post, OutgoingBody
from wit_world.imports.types import OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        if not isinstance(request.method(), Method_Post):
            return respond(response_out, 200, {"hello": "from Python", "path": request.path_with_query()})
        try:
            items = json.loads(read(request), parse_float=decimal.Decimal)
            total = sum(item["price"] * item.get("count", 1) for item in items)
        except (ValueError, KeyError, TypeError) as error:
            return respond(response_out, 400, {"error": repr(error)})
        respond(response_out, 200, {"total": str(total)})


def read(request: IncomingRequest) -> bytes:
    data = bytearray()
    with request.consume() as body, body.stream() as stream:
        while True:
            try:
                data += stream.blocking_read(64 * 1024)
            except Exception:  # The stream's end is told as an error.
                return bytes(data)


def respond(response_out: ResponseOutparam, status: int, content: dict) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(json.dumps(content).encode() + b"\n")
    OutgoingBody.finish(body, None)
