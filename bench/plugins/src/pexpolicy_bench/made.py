"""Plugin that decides every call with a conference of eight fields, or a lecture of 46."""

from typing import Literal

from pexpolicy import Conference, Lecture, PluginSettings, ServiceConfigurationRequest, hookimpl

_UUID = "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc"


class Made:
    """Plugin with a decision built at start-up, or one for each call."""

    class Settings(PluginSettings):
        """Number of fields, and whether the decision is built once or for each call."""

        fields: Literal["eight", "full"]
        prepared: bool

    def __init__(self, settings: Settings) -> None:
        self._make = eight if settings.fields == "eight" else full
        self._prepared = self._make("tag0000") if settings.prepared else None

    @hookimpl
    async def service_configuration(
        self, request: ServiceConfigurationRequest
    ) -> Conference | Lecture:
        """The prepared decision, or a new one named after the call's tag."""
        return self._prepared or self._make(request.call_tag or "")


def eight(tag: str) -> Conference:
    """A conference of the eight fields that a room of an office usually sets."""
    return Conference(
        name=f"Engineering Room {tag}",
        service_tag="engineering-room",
        description="Weekly meeting of the engineers",
        pin="1234",
        allow_guests=True,
        guest_pin="5678",
        view="one_main_seven_pips",
        host_identity_provider_group="Staff",
    )


def full(tag: str) -> Lecture:
    """A lecture of every field that one can have together, those of a breakout room included.

    Guests and breakouts are said to exclude each other, so it has no guests and no guest PIN.
    """
    return Lecture(
        name=f"Engineering Room {tag}",
        service_tag="engineering-room",
        description="Weekly meeting of the engineers",
        allow_guests=False,
        pin="1234",
        host_identity_provider_group="Staff",
        guest_identity_provider_group="Partners",
        non_idp_participants="allow_if_trusted",
        automatic_participants=[],
        breakout_rooms=False,
        bypass_proxy=False,
        call_type="video",
        crypto_mode="besteffort",
        denoise_enabled=True,
        softmute_enabled=False,
        direct_media="never",
        direct_media_notification_duration=0,
        enable_active_speaker_indication=True,
        enable_overlay_text=True,
        enable_chat="yes",
        host_view="one_main_seven_pips",
        guest_view="one_main_zero_pips",
        guests_can_see_guests="always",
        force_presenter_into_main=True,
        guests_can_present=True,
        ivr_theme_name="Office",
        live_captions_enabled="no",
        live_captions_language="en",
        source_language="en",
        local_display_name="Engineering",
        locked=False,
        max_callrate_in=2_048_000,
        max_callrate_out=2_048_000,
        max_pixels_per_second="fullhd",
        mute_all_guests=False,
        participant_limit=50,
        pinning_config="stage",
        prefer_ipv6="default",
        primary_owner_email_address="owner@example.com",
        breakout=True,
        breakout_uuid=_UUID,
        breakout_name="Design",
        breakout_description="The designers' corner",
        breakout_guests_allowed_to_leave=True,
        end_action="transfer",
        end_time=0,
    )
