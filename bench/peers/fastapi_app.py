"""The policy in FastAPI; ``uvicorn`` serves it.

``documented`` is what FastAPI's own pages teach: the security dependency, a query model and a
response model. ``tuned`` does what one learns later: an ``async`` dependency, no models, and a
reply that is not looked at again.
"""

import os
import secrets
import time
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel, ConfigDict

from bench.peers import policy

documented = FastAPI()
tuned = FastAPI()
_security = HTTPBasic()


class Call(BaseModel):
    """The parameters that the policy looks at or writes down."""

    model_config = ConfigDict(extra="allow")

    local_alias: str = ""
    remote_alias: str | None = None
    protocol: str | None = None


class Room(BaseModel):
    """One room."""

    service_type: str
    name: str
    service_tag: str


class Answer(BaseModel):
    """The reply."""

    status: str
    action: str
    result: Room
    decision_id: str


def who(credentials: Annotated[HTTPBasicCredentials, Depends(_security)]) -> str:
    """Return the user or raise 401."""
    user = secrets.compare_digest(credentials.username.encode(), b"pexip")
    expected = os.environ["PEER_PASSWORD"].encode()
    if not (user and secrets.compare_digest(credentials.password.encode(), expected)):
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})
    return credentials.username


@documented.get(policy.PATH)
def configuration(
    request: Request, call: Annotated[Call, Query()], _user: Annotated[str, Depends(who)]
) -> Answer:
    """Answer one call."""
    began = time.perf_counter()
    answer = policy.decide(call.local_alias)
    policy.note(call.model_dump(), answer, _peer(request), began)
    return Answer.model_validate(answer)


async def quick(request: Request) -> None:
    """Answer 401 for other credentials."""
    if not policy.authorised(request.headers.get("authorization")):
        raise HTTPException(401)


@tuned.get(policy.PATH, dependencies=[Depends(quick)], response_model=None)
async def quick_configuration(request: Request) -> JSONResponse:
    """Answer one call."""
    began = time.perf_counter()
    query = request.query_params
    answer = policy.decide(query.get("local_alias", ""))
    policy.note(query, answer, _peer(request), began)
    return JSONResponse(answer)


def _peer(request: Request) -> str | None:
    return request.client.host if request.client else None
