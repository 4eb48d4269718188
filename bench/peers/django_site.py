"""The policy in Django with the middleware that a new project has; ``gunicorn`` serves it.

With PEER_DATABASE set, rooms are rows of that SQLite file, looked up through the ORM.
"""

import os
import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from bench.peers import policy

_DATABASE = os.environ.get("PEER_DATABASE")

settings.configure(
    SECRET_KEY="for a measurement on loopback",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _DATABASE}}
    if _DATABASE
    else {},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGGING_CONFIG=None,
)
django.setup(set_prefix=False)


class Room(models.Model):
    """One room."""

    alias = models.CharField(max_length=250, unique=True)
    name = models.CharField(max_length=250)
    service_tag = models.CharField(max_length=250)

    class Meta:
        app_label = "rooms"

    def __str__(self) -> str:
        return self.alias


def configuration(request: HttpRequest) -> HttpResponse:
    """Answer one call."""
    began = time.perf_counter()
    if not policy.authorised(request.headers.get("Authorization")):
        return HttpResponse(status=401)
    query = request.GET
    alias = query.get("local_alias", "")
    answer = _from_rows(alias) if _DATABASE else policy.decide(alias)
    policy.note(query.dict(), answer, request.META["REMOTE_ADDR"], began)
    return JsonResponse(answer)


def _from_rows(alias: str) -> dict[str, object]:
    room = Room.objects.filter(alias=policy.local_part(alias)).first()
    if room is None:
        return policy.decide(alias)
    return policy.reply({"name": room.name, "service_tag": room.service_tag})


def fill() -> None:
    """Make the table and its rows; for ``python -c``."""
    with connection.schema_editor() as editor:
        editor.create_model(Room)
    Room.objects.bulk_create(Room(alias=alias, **room) for alias, room in policy.ROOMS.items())


urlpatterns = [path(policy.PATH[1:], configuration)]
application = get_wsgi_application()
