"""pexpolicy: a policy server for Pexip Infinity whose decisions come from plugins.

Plugin authors need this module and nothing below it.
"""

from __future__ import annotations

from pexpolicy.alias import Alias
from pexpolicy.chain import Outcome
from pexpolicy.config import ConfigPath, PluginSettings, SettingsError
from pexpolicy.contract.refusal import DecisionError
from pexpolicy.decisions import Continue, Decision, Redirect, Reject
from pexpolicy.endpoints.directory_information import (
    Directory,
    DirectoryEntry,
    DirectoryInformationRequest,
)
from pexpolicy.endpoints.media_location import MediaLocation, MediaLocationRequest
from pexpolicy.endpoints.participant_avatar import Avatar, ParticipantAvatarRequest
from pexpolicy.endpoints.participant_properties import (
    AudioMix,
    ParticipantProperties,
    ParticipantPropertiesRequest,
)
from pexpolicy.endpoints.playback import OnCompletion, Transfer
from pexpolicy.endpoints.registration_alias import Credentials, RegistrationAliasRequest
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES, ServiceConfigurationRequest
from pexpolicy.endpoints.service_types import (
    AutomaticParticipant,
    Conference,
    Gateway,
    Lecture,
    MediaPlayback,
    Service,
    TestCall,
    VirtualReception,
)
from pexpolicy.hooks import hookimpl
from pexpolicy.parameters import Params, Request
from pexpolicy.problems import Advice, Problem

__version__ = "0.1.0"

__all__ = [
    "SERVICE_TYPES",
    "Advice",
    "Alias",
    "AudioMix",
    "AutomaticParticipant",
    "Avatar",
    "Conference",
    "ConfigPath",
    "Continue",
    "Credentials",
    "Decision",
    "DecisionError",
    "Directory",
    "DirectoryEntry",
    "DirectoryInformationRequest",
    "Gateway",
    "Lecture",
    "MediaLocation",
    "MediaLocationRequest",
    "MediaPlayback",
    "OnCompletion",
    "Outcome",
    "Params",
    "ParticipantAvatarRequest",
    "ParticipantProperties",
    "ParticipantPropertiesRequest",
    "PluginSettings",
    "Problem",
    "Redirect",
    "RegistrationAliasRequest",
    "Reject",
    "Request",
    "Service",
    "ServiceConfigurationRequest",
    "SettingsError",
    "TestCall",
    "Transfer",
    "VirtualReception",
    "hookimpl",
]
