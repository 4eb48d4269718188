"""What Infinity gets wrong without a word, and what therefore cannot be answered."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from PIL import Image

from lab.generated_decisions.pictures import bomb, saved
from pexpolicy import (
    Alias,
    Avatar,
    Conference,
    Continue,
    Credentials,
    Decision,
    DecisionError,
    Directory,
    DirectoryEntry,
    Gateway,
    Lecture,
    MediaLocation,
    MediaPlayback,
    ParticipantProperties,
    Redirect,
    Reject,
    ServiceConfigurationRequest,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import MAX_REFUSAL
from pexpolicy.fields import AutomaticParticipant, OnCompletion, Transfer
from pexpolicy.models.contract import contract_of
from pexpolicy.policy import Answer
from tests.support import fake_plugins
from tests.support.oracle import judge

SERVICE, PARTICIPANT = "service_configuration", "participant_properties"
LOCATION, AVATAR = "media_location", "participant_avatar"
DIRECTORY, REGISTRATION = "directory_information", "registration_alias"
CALL = {"call_direction": "dial_in", "protocol": "sip", "local_alias": "room"}
UUID, OTHER_UUID = "4a6f2f3e-5d0f-4c1e-9a57-0d8f6c2b7e11", "5b7f3f4e-5d0f-4c1e-9a57-0d8f6c2b7e22"
Make = Callable[[], object]


def room(**fields: Any) -> Conference:
    return Conference(**{"name": "Room", "service_tag": "", **fields})


def built(model: Any, **fields: Any) -> Any:
    """A decision of fields that no type checker would let pass."""
    return model(**fields)


async def answered(endpoint: str, make: Make, query: dict[str, str], **document: Any) -> Answer:
    """What becomes of a request when one plugin answers."""

    async def hook(_: object) -> object:
        return make()

    policy = fake_plugins.policy({"toy": fake_plugins.plugin(**{endpoint: hook})}, **document)
    async with policy.serving():
        return await policy.answer(
            ENDPOINTS[endpoint].parse(MultiDict(query), "alice@example.com"), "id"
        )


async def refused(endpoint: str, make: Make, query: dict[str, str] | None = None) -> str:
    """Why an answer is not sent."""
    got = await answered(endpoint, make, CALL if query is None else query)
    (step,) = got.outcome.steps
    assert (step.plugin, step.outcome) == ("toy", "invalid")
    assert got.outcome.decided_by == "default"
    return step.detail


async def warned(endpoint: str, make: Make, **query: str) -> str:
    """What is warned about in an answer that is sent."""
    got = await answered(endpoint, make, {**CALL, **query})
    assert got.outcome.decided_by == "toy"
    return "\n".join(got.outcome.decision.warnings)


async def sent(endpoint: str, make: Make, **query: str) -> bytes:
    got = await answered(endpoint, make, {**CALL, **query})
    assert got.outcome.decided_by == "toy", got.outcome.steps
    return got.reply.body


MISTAKES: list[tuple[str, Make, tuple[str, ...]]] = [
    (SERVICE, lambda: room(pin=1234), ("Conference.pin:", "in quotes")),
    (SERVICE, lambda: room(pin="12"), ("Conference.pin:", "4 to 20 characters")),
    (SERVICE, lambda: room(pin="12 34"), ("digits with a #",)),
    (SERVICE, lambda: room(locked="True"), ("locked = 'True'", "write it without quotes")),
    (SERVICE, lambda: room(enable_chat=True), ("'default', 'yes', 'no'",)),
    (SERVICE, lambda: room(max_callrate_in=2048), ("of bits per second from 128000",)),
    (SERVICE, lambda: room(participant_limit="50"), ("write it without quotes",)),
    (SERVICE, lambda: room(participant_limit=None), ("leave the field out",)),
    (
        SERVICE,
        lambda: built(Conference, nmae="x", service_tag=""),
        ("Conference.name: is required",),
    ),
    (SERVICE, lambda: built(Conference, name="x"), ("Conference.service_tag: is required",)),
    (SERVICE, lambda: room(host_view="x"), ("no field 'host_view'", "there are ")),
    (SERVICE, lambda: room(guest_pn="1234"), ("did you mean 'guest_pin'? Infinity would",)),
    (SERVICE, lambda: room(media_encryption="on"), ("no field 'media_encryption'", "crypto_mode")),
    (SERVICE, lambda: room(service_theme="x"), ("no field 'service_theme'", "ivr_theme_name")),
    (SERVICE, lambda: room(call_tag="x"), ("there is no field 'call_tag' in Conference",)),
    (SERVICE, lambda: room(non_idp_participants="allow"), ("'disallow_all', 'allow_if_trusted'",)),
    (SERVICE, lambda: room(crypto_mode="besteffrt"), ("did you mean 'besteffort'?",)),
    (SERVICE, lambda: room(description="x" * 251), ("251", "at most 250 characters")),
    (SERVICE, lambda: room(automatic_participants={}), ("must be a list", "a dict")),
    (SERVICE, lambda: room(automatic_participants=iter(())), ("cannot be written as JSON",)),
    (SERVICE, lambda: room(breakout=True), ("breakout_uuid and breakout_name",)),
    (SERVICE, lambda: room(service_type="lecture"), ("must be 'conference'",)),
    (SERVICE, lambda: {"name": "x", "service_tag": ""}, ("service_type: is required",)),
    (SERVICE, lambda: {"service_type": "confernce"}, ("did you mean 'conference'?",)),
    (SERVICE, lambda: {"status": "success", "action": "reject"}, ("answer the result alone",)),
    (SERVICE, lambda: "Room", ("'Room' is not a decision", "Conference, Continue, Gateway")),
    (SERVICE, lambda: Conference, ("is not a decision",)),
    (SERVICE, lambda: [room()], ("a list is not a decision",)),
    (SERVICE, lambda: Redirect(new_alias="a@b"), ("must begin with a scheme",)),
    (SERVICE, lambda: room(description="\ud800"), ("Conference.description:", "surrogate")),
    (PARTICIPANT, lambda: {"reject": True}, ("answer Reject()",)),
    (PARTICIPANT, lambda: {"reject_reason": "no"}, ("answer Reject(reject_reason=...)",)),
    (
        PARTICIPANT,
        lambda: built(ParticipantProperties, preauthenticated_role="host"),
        ("one of 'chair', 'guest'", "change nothing"),
    ),
    (
        PARTICIPANT,
        lambda: built(ParticipantProperties, rx_presentation_policy="allow"),
        ("did you mean 'ALLOW'?",),
    ),
    (
        PARTICIPANT,
        lambda: {"send_to_audio_mixes": [{"mix_name": "a.b.c.d"}]},
        ("send_to_audio_mixes[0].mix_name = 'a.b.c.d'", "one to three levels"),
    ),
    (LOCATION, lambda: "London", ("'London' is not a decision", "MediaLocation")),
    (LOCATION, lambda: {"location": ""}, ("1 to 250 characters",)),
    (LOCATION, Reject, ("a Reject is not a decision",)),
    (DIRECTORY, lambda: [{"alias": "a", "username": "b"}], ("entries[0].description: is req",)),
    (REGISTRATION, lambda: {"username": "", "password": ""}, ("without_authentication()",)),
    (AVATAR, lambda: "http://example.com/a.jpg", ("is not a decision", "placeholder")),
    (AVATAR, lambda: b"<html>", ("are not a picture", "b'<html>'")),
]


@pytest.mark.parametrize(
    ("endpoint", "make", "says"), MISTAKES, ids=[says[0] for _, _, says in MISTAKES]
)
async def test_a_common_mistake_is_named_with_what_to_write_instead(
    endpoint: str, make: Make, says: tuple[str, ...]
) -> None:
    said = await refused(endpoint, make)
    assert all(part in said for part in says), said
    assert "Infinity would " in said
    assert len(said) < MAX_REFUSAL


async def test_a_nested_mistake_is_named_with_its_place() -> None:
    caller = {"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "host"}
    said = await refused(SERVICE, lambda: room(automatic_participants=[caller]))
    assert said.startswith("Conference.automatic_participants[0].role = 'host': must be one of")


@pytest.mark.parametrize("value", ["98765432109876543210987", 987654321, ["987654"]])
async def test_a_secret_is_not_shown_in_a_refusal(value: object) -> None:
    assert "98765" not in await refused(SERVICE, lambda: room(pin=value))
    assert "98765" not in await refused(SERVICE, lambda: room(pni=value))


async def test_a_value_of_ten_megabytes_makes_a_short_message() -> None:
    said = await refused(SERVICE, lambda: room(description="x" * 10_000_000))
    assert "10000000 long" in said
    assert len(said) < MAX_REFUSAL


class TestReject:
    @pytest.mark.parametrize("endpoint", [SERVICE, REGISTRATION])
    async def test_it_never_carries_a_usable_result(self, endpoint: str) -> None:
        got = await answered(endpoint, lambda: Reject(reject_reason="no entry"), CALL)
        assert got.reply.action == "reject"
        assert b"no entry" not in got.reply.body
        assert "shown to participants by participant properties only" in str(
            got.outcome.decision.warnings
        )

    async def test_a_participant_sees_the_reason(self) -> None:
        body = await sent(PARTICIPANT, lambda: Reject(reject_reason="no entry"))
        assert b'"action":"reject","result":{"reject_reason":"no entry"}' in body

    def test_it_takes_no_other_field(self) -> None:
        with pytest.raises(DecisionError, match="no field 'name' in Reject"):
            Reject.from_result({"name": "Room"})
        with pytest.raises(DecisionError, match="no field 'service_tag' in Redirect"):
            Redirect.from_result({"new_alias": "sip:a@b", "service_tag": ""})

    @pytest.mark.parametrize("endpoint", [LOCATION, AVATAR, DIRECTORY])
    async def test_it_is_refused_where_infinity_knows_none(self, endpoint: str) -> None:
        assert "a Reject is not a decision" in await refused(endpoint, Reject)


class TestCredentials:
    async def test_open_registration_has_to_be_asked_for_by_name(self) -> None:
        with pytest.raises(DecisionError, match="without_authentication"):
            Credentials(username="", password="")
        body = await sent(REGISTRATION, Credentials.without_authentication)
        assert b'"result":{"username":"","password":""}' in body

    async def test_one_that_is_empty_is_warned_about(self) -> None:
        said = await warned(REGISTRATION, lambda: Credentials(username="alice", password=""))
        assert "one of user name and password is empty" in said

    async def test_an_empty_result_leaves_it_to_infinity(self) -> None:
        assert b'"action":"continue","result":{}' in await sent(REGISTRATION, dict)

    async def test_single_sign_on_takes_none(self) -> None:
        def make() -> Decision:
            return Credentials(username="alice", password="secret")

        for word in ("sso", '"sso"'):
            assert "single sign-on" in await refused(REGISTRATION, make, {"auth_type": word})
        await sent(REGISTRATION, make, auth_type='"credentials"')


class TestAvatar:
    async def test_what_is_transparent_becomes_white(self) -> None:
        out = io.BytesIO()
        Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(out, "PNG")
        body = await sent(AVATAR, lambda: Avatar(out.getvalue()))
        with Image.open(io.BytesIO(body)) as image:
            assert image.getpixel((4, 4)) == (255, 255, 255)

    @pytest.mark.parametrize(
        "broken",
        [
            b"",
            b"<html>404</html>",
            saved("JPEG", "RGB", (40, 40))[:300],
            saved("TIFF", "RGB", (4, 4)),
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        ],
        ids=["empty", "html", "truncated", "tiff", "postscript"],
    )
    async def test_what_is_no_picture_is_refused_with_a_404(self, broken: bytes) -> None:
        got = await answered(AVATAR, lambda: broken, {"width": "40", "height": "40"})
        assert got.reply.status == 404
        assert got.outcome.steps[0].outcome == "invalid"

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    async def test_a_picture_of_four_thousand_million_pixels_is_not_decoded(self) -> None:
        assert "pixel" in await refused(AVATAR, bomb, {"width": "40"})


class TestWhatIsSent:
    async def test_a_pin_keeps_its_leading_zeros(self) -> None:
        assert b'"pin":"0012"' in await sent(SERVICE, lambda: room(pin="0012"))

    async def test_text_is_refused_and_not_cut(self) -> None:
        assert await sent(SERVICE, lambda: room(description="é" * 250))
        assert "251" in await refused(SERVICE, lambda: room(description="é" * 251))

    async def test_what_was_checked_is_sent_whatever_happens_later(self) -> None:
        callers = [{"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "chair"}]
        decision = room(automatic_participants=callers)
        callers[0]["role"] = "host"
        callers.append({})
        assert decision.set_fields()["automatic_participants"] == [
            {"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "chair"}
        ]

    async def test_an_alias_of_the_request_can_be_a_field(self) -> None:
        caller = AutomaticParticipant(
            local_alias=Alias("sip:Room@Example.com"),
            remote_alias="sip:a@b",
            protocol="sip",
            role="guest",
        )
        body = await sent(SERVICE, lambda: room(automatic_participants=[caller]))
        assert b'"local_alias":"room@example.com"' in body

    async def test_a_plain_dictionary_goes_through_the_same_checks(self) -> None:
        plain = {"service_type": "conference", "name": "Room", "service_tag": ""}
        got = await answered(SERVICE, lambda: plain, CALL)
        assert got.outcome.decision.set_fields() == room().set_fields()
        assert "128000" in await refused(SERVICE, lambda: {**plain, "max_callrate_in": 512})
        assert "no field 'foo'" in await warned(SERVICE, lambda: {**plain, "foo": 1})
        assert "must begin" in await refused(SERVICE, lambda: {"new_alias": "a@b"})

    async def test_what_follows_a_playlist_is_one_of_two(self) -> None:
        def playlist(then: object) -> Make:
            needed = {"name": "P", "service_tag": "", "media_playlist_name": "M"}
            return lambda: built(MediaPlayback, **needed, on_completion=then)

        goes_on = OnCompletion(transfer=Transfer(conference="lobby", role="guest"))
        body = await sent(SERVICE, playlist(goes_on))
        assert b'"on_completion":{"transfer":{"conference":"lobby","role":"guest"}}' in body
        await sent(SERVICE, playlist({"disconnect": True}))
        assert "JSON text" in await warned(SERVICE, playlist('{"disconnect": true}'))
        for wrong in ({}, {"disconnect": False}, "stop", {"transfer": {"conference": ""}}):
            await refused(SERVICE, playlist(wrong))

    async def test_only_as_many_entries_as_were_asked_for_leave(self) -> None:
        entries = [DirectoryEntry(alias=f"a{n}", description="x") for n in range(12)]
        answers: list[Make] = [
            lambda: entries,
            lambda: Directory(entries=entries, ignore_local=True),
        ]
        for make in answers:
            got = await answered(DIRECTORY, make, {"limit": "3"})
            assert got.reply.body.count(b'"username":""') == 3

    async def test_a_name_can_be_null_only_where_there_is_none(self) -> None:
        nameless = ParticipantProperties(remote_display_name=None)
        said = await refused(PARTICIPANT, lambda: nameless, {"remote_display_name": "Alice"})
        assert "only where it was null" in said
        assert b'"remote_display_name":null' in await sent(PARTICIPANT, lambda: nameless)

    async def test_a_class_of_a_plugin_is_sent_as_what_it_is_derived_from(self) -> None:
        class Lobby(Conference):
            action = "redirect"

        lobby = Lobby(name="Lobby", service_tag="", reason="closed")
        body = await sent(SERVICE, lambda: lobby)
        assert b'"action":"continue","result":{' in body

    async def test_a_decision_that_was_never_put_together_is_refused(self) -> None:
        assert "cannot be read" in await refused(SERVICE, lambda: object.__new__(Conference))


class TestNames:
    DECLARED = {"locations": ["London", "Oslo"], "themes": ["Office"]}

    @pytest.mark.parametrize(
        ("endpoint", "make", "says"),
        [
            (LOCATION, lambda: MediaLocation(location="Londn"), "did you mean 'London'?"),
            (LOCATION, lambda: MediaLocation(location="london"), "not listed under [infinity]"),
            (
                LOCATION,
                lambda: MediaLocation(location="Oslo", overflow_locations=["Oslo", "Rome"]),
                "'Rome' is not listed",
            ),
            (SERVICE, lambda: room(ivr_theme_name="Offices"), "did you mean 'Office'?"),
            (
                SERVICE,
                lambda: room(
                    automatic_participants=[
                        AutomaticParticipant(
                            local_alias="a",
                            remote_alias="b",
                            protocol="sip",
                            role="chair",
                            system_location_name="Paris",
                        )
                    ]
                ),
                "'Paris' is not listed",
            ),
        ],
    )
    async def test_a_name_that_infinity_does_not_know_is_refused(
        self, endpoint: str, make: Make, says: str
    ) -> None:
        got = await answered(endpoint, make, CALL, infinity=self.DECLARED)
        (step,) = got.outcome.steps
        assert step.outcome == "invalid"
        assert says in step.detail

    async def test_a_name_that_it_knows_and_one_of_another_kind_are_sent(self) -> None:
        def make() -> Decision:
            return room(ivr_theme_name="Office", host_identity_provider_group="Staff")

        for _ in range(2):
            got = await answered(SERVICE, make, CALL, infinity=self.DECLARED)
            assert got.outcome.decided_by == "toy"


class TestTheQuestion:
    async def test_an_answer_that_is_not_the_service_that_dials_out_is_warned_about(self) -> None:
        running = {"call_direction": "dial_out", "service_name": "Room", "service_tag": "t"}
        said = await warned(SERVICE, lambda: room(name="Other"), **running)
        assert "name: the running service that dials out has another" in said
        assert "service_tag: the running service" in said
        assert await warned(SERVICE, lambda: room(service_tag="t"), **running) == ""

    async def test_a_service_for_a_probe_is_warned_about(self) -> None:
        assert "a probe" in await warned(SERVICE, room, call_direction="non_dial")
        assert await warned(SERVICE, Continue, call_direction="non_dial") == ""

    async def test_a_redirect_of_a_caller_who_cannot_follow_is_warned_about(self) -> None:
        def make() -> Decision:
            return Redirect(new_alias="sip:sales@example.com")

        assert "reaches SIP callers only" in await warned(SERVICE, make, protocol="webrtc")
        assert await warned(SERVICE, make, protocol="sip") == ""

    @pytest.mark.parametrize("protocol", ["sip", "webrtc"])
    @pytest.mark.parametrize(
        ("dialed", "warns"), [("sip:Sales@example.com:5061;transport=tls", True), ("a@b", False)]
    )
    async def test_a_redirect_to_the_dialed_alias_is_warned_about(
        self, protocol: str, dialed: str, *, warns: bool
    ) -> None:
        def make() -> Decision:
            return Redirect(new_alias="sip:sales@example.com")

        said = await warned(SERVICE, make, protocol=protocol, local_alias=dialed)
        assert ("the caller is redirected in a circle" in said) is warns

    async def test_fields_that_only_one_protocol_uses_are_warned_about(self) -> None:
        def make() -> Decision:
            return Gateway(
                name="G",
                service_tag="",
                local_alias="a",
                remote_alias="b",
                outgoing_protocol="sip",
                treat_as_trusted=True,
                denoise_audio=False,
            )

        assert "treat_as_trusted: is used for outgoing_protocol = teams or gms" in (
            await warned(SERVICE, make)
        )

    async def test_a_layout_that_few_know_is_warned_about(self) -> None:
        said = await warned(SERVICE, lambda: room(view="one_main_seven_pip"))
        assert "not a layout on which at least three sources agree" in said
        with pytest.raises(DecisionError, match="not for lectures"):
            Lecture(name="L", service_tag="", host_view="five_mains_seven_pips")


class TestBreakouts:
    """A main room with two breakout rooms, from the first request to the last."""

    ROOMS = {UUID: "Design", OTHER_UUID: "Sales"}

    @classmethod
    def service(cls, request: ServiceConfigurationRequest) -> Decision | None:
        """What a plugin with breakout rooms answers."""
        if request.local_alias != "meet.bob":
            return None
        if request.breakout_uuid is None:
            return Conference(
                name="meet.bob",
                service_tag="bob",
                breakout_rooms=True,
                breakout_uuids=list(cls.ROOMS),
            )
        return Conference(
            name="meet.bob",
            service_tag="bob",
            breakout=True,
            breakout_uuid=request.breakout_uuid,
            breakout_name=cls.ROOMS[request.breakout_uuid],
            end_action="transfer",
            end_time=0,
        )

    async def ask(self, **query: str) -> Answer:
        async def hook(request: ServiceConfigurationRequest) -> Decision | None:
            return self.service(request)

        policy = fake_plugins.policy({"breakouts": fake_plugins.plugin(service_configuration=hook)})
        asked = {**CALL, "protocol": "api", "local_alias": "meet.bob", **query}
        async with policy.serving():
            return await policy.answer(ENDPOINTS[SERVICE].parse(MultiDict(asked)), "id")

    async def test_a_host_joins_the_main_room_and_then_each_breakout_room(self) -> None:
        main = (await self.ask()).outcome.decision
        announced = main.set_fields()["breakout_uuids"]
        assert announced == [UUID, OTHER_UUID]
        assert main.warnings == ()
        for uuid in announced:
            unique = f"meet.bob_breakout_{uuid}"
            got = await self.ask(
                breakout_uuid=uuid, service_name=unique, unique_service_name=unique
            )
            result = got.outcome.decision.set_fields()
            assert (result["name"], result["breakout_uuid"]) == ("meet.bob", uuid)
            assert result["breakout_name"] == self.ROOMS[uuid]
            assert got.outcome.decision.warnings == ()
            query = f"call_direction=dial_in&breakout_uuid={uuid}"
            body = got.reply.body
            assert judge(SERVICE, query, 200, got.reply.content_type, body) == []

    async def test_the_main_room_in_the_place_of_a_breakout_room_is_warned_about(self) -> None:
        said = await warned(SERVICE, lambda: room(breakout_rooms=True), breakout_uuid=UUID)
        assert "a breakout room is requested" in said

    async def test_another_breakout_room_is_warned_about(self) -> None:
        def make() -> Decision:
            return room(breakout=True, breakout_uuid=OTHER_UUID, breakout_name="Sales")

        said = await warned(SERVICE, make, breakout_uuid=UUID)
        assert "another breakout room is requested" in said

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"breakout": True}, "breakout_uuid and breakout_name"),
            ({"breakout_name": "Design"}, "breakout = true is required with it"),
            ({"end_time": 0}, "breakout = true is required with it"),
            ({"breakout_rooms": True, "direct_media": "always"}, "excludes breakout rooms"),
            (
                {
                    "breakout": True,
                    "breakout_uuid": UUID,
                    "breakout_name": "D",
                    "breakout_rooms": True,
                },
                "cannot have breakout rooms",
            ),
            (
                {"breakout": True, "breakout_uuid": UUID[:-1], "breakout_name": "D"},
                "a UUID such as",
            ),
            ({"breakout_uuids": [UUID, f"{UUID[:-1]}g"]}, "each must be a UUID"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, fields: dict[str, Any], says: str) -> None:
        with pytest.raises(DecisionError, match=says):
            room(**fields)


FIELDS = st.dictionaries(
    st.sampled_from([*sorted(contract_of(Conference).names), "nmae", "host_view", "x y"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["", "1234", "12", "yes"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["role", "x"]), inner),
        max_leaves=4,
    ),
    max_size=6,
)


@given(FIELDS)
def test_all_refusals_of_fields_hold_the_first_and_none_where_there_is_none(
    fields: dict[str, Any],
) -> None:
    first = None
    try:
        Conference(**fields)
    except DecisionError as error:
        first = error.refusal.field
    told = Conference.find_issues(fields)
    assert len({str(refusal) for refusal in told}) == len(told)
    assert (first is not None) == bool(told)
    assert first is None or first in [refusal.field for refusal in told]
