"""The policy in Flask; ``gunicorn`` serves it."""

import time

from flask import Flask, Response, jsonify, request

from bench.peers import policy

application = Flask(__name__)


@application.get(policy.PATH)
def configuration() -> Response:
    """Answer one call."""
    began = time.perf_counter()
    if not policy.authorised(request.headers.get("Authorization")):
        return Response(status=401)
    answer = policy.decide(request.args.get("local_alias", ""))
    policy.note(request.args, answer, request.remote_addr, began)
    return jsonify(answer)
