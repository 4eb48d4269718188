"""Public API for plugins: the names of ``from pexpolicy import``."""

from __future__ import annotations

from msgspec import UNSET

from pexpolicy.background.refreshed import DataUnavailableError, Refreshed
from pexpolicy.background.schedule import schedule
from pexpolicy.background.shared import Counters, Leases, Store
from pexpolicy.background.shared_state import SharedUnavailableError
from pexpolicy.background.sources import Source
from pexpolicy.config.plugin_settings import ConfigPath, PluginSettings, Secret
from pexpolicy.config.problems import ConfigWarning, Key, Problem, SettingsError
from pexpolicy.config.secrets import read_secret
from pexpolicy.config.settings import Tenants
from pexpolicy.endpoints.directory_information import (
    Directory,
    DirectoryEntry,
    DirectoryInformationRequest,
)
from pexpolicy.endpoints.media_location import MediaLocation, MediaLocationRequest
from pexpolicy.endpoints.participant_avatar import Avatar, ParticipantAvatarRequest
from pexpolicy.endpoints.participant_properties import (
    ParticipantProperties,
    ParticipantPropertiesRequest,
)
from pexpolicy.endpoints.registration_alias import Credentials, RegistrationAliasRequest
from pexpolicy.endpoints.service_configuration import ServiceConfigurationRequest
from pexpolicy.endpoints.service_types import (
    Conference,
    Gateway,
    Lecture,
    MediaPlayback,
    Service,
    TestCall,
    VirtualReception,
)
from pexpolicy.hooks import Plugin, Result, hookimpl
from pexpolicy.log import get_logger
from pexpolicy.models.alias import Alias, AliasMap, AliasSet
from pexpolicy.models.context import record_change, wall_clock
from pexpolicy.models.decision import Continue, Decision, Redirect, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Request
from pexpolicy.models.rules import Privacy
from pexpolicy.plugins import metrics
from pexpolicy.plugins.plugin import load_settings

__all__ = [
    "UNSET",
    "Alias",
    "AliasMap",
    "AliasSet",
    "Avatar",
    "Conference",
    "ConfigPath",
    "ConfigWarning",
    "Continue",
    "Counters",
    "Credentials",
    "DataUnavailableError",
    "Decision",
    "DecisionError",
    "Directory",
    "DirectoryEntry",
    "DirectoryInformationRequest",
    "Gateway",
    "Key",
    "Leases",
    "Lecture",
    "MediaLocation",
    "MediaLocationRequest",
    "MediaPlayback",
    "Outcome",
    "ParticipantAvatarRequest",
    "ParticipantProperties",
    "ParticipantPropertiesRequest",
    "Plugin",
    "PluginSettings",
    "Privacy",
    "Problem",
    "Redirect",
    "Refreshed",
    "RegistrationAliasRequest",
    "Reject",
    "Request",
    "Result",
    "Secret",
    "Service",
    "ServiceConfigurationRequest",
    "SettingsError",
    "SharedUnavailableError",
    "Source",
    "Store",
    "Tenants",
    "TestCall",
    "VirtualReception",
    "get_logger",
    "hookimpl",
    "load_settings",
    "metrics",
    "read_secret",
    "record_change",
    "schedule",
    "wall_clock",
]
