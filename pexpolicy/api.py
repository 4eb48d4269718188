"""Public API for plugins: the names of ``from pexpolicy import``."""

from __future__ import annotations

from msgspec import UNSET

from pexpolicy.background.refreshed import CacheFile, DataUnavailableError, Refreshed
from pexpolicy.background.schedule import ScheduledJob, schedule
from pexpolicy.background.sources import Source
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.config.file_tracking import read_file, track_file
from pexpolicy.config.plugin_settings import ConfigPath, PluginSettings, SettingsError
from pexpolicy.config.problems import ConfigWarning, Key, Problem, dotted_key
from pexpolicy.config.schema.base import MAX_BUDGET, EndpointName
from pexpolicy.config.schema.plugins import BreakerTable
from pexpolicy.config.secrets import SecretError, read_secret
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.decision_fields import FieldsOf
from pexpolicy.endpoints.directory_information import (
    Directory,
    DirectoryEntry,
    DirectoryInformationRequest,
)
from pexpolicy.endpoints.gateway import Gateway, VirtualReception
from pexpolicy.endpoints.media_location import MediaLocation, MediaLocationRequest
from pexpolicy.endpoints.media_playback import MediaPlayback, OnCompletion, Transfer
from pexpolicy.endpoints.participant_avatar import Avatar, ParticipantAvatarRequest
from pexpolicy.endpoints.participant_properties import (
    AudioMix,
    ParticipantProperties,
    ParticipantPropertiesRequest,
)
from pexpolicy.endpoints.registration_alias import Credentials, RegistrationAliasRequest
from pexpolicy.endpoints.row_values import RowValues
from pexpolicy.endpoints.service_configuration import (
    SERVICE_TYPES,
    ServiceConfigurationRequest,
    service_class,
)
from pexpolicy.endpoints.service_types import (
    AutomaticParticipant,
    Conference,
    Lecture,
    Service,
    TestCall,
)
from pexpolicy.hooks import Plugin, hookimpl
from pexpolicy.log.plugin_logger import get_logger
from pexpolicy.models.alias import Alias
from pexpolicy.models.alias_map import AliasMap, AliasSet
from pexpolicy.models.decision import Continue, Decision, Redirect, Reject
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.model import Unset
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Params, Request
from pexpolicy.models.rules import Privacy
from pexpolicy.models.wall_clock import wall_clock
from pexpolicy.plugins.changes import listed, named_changes
from pexpolicy.rows import (
    FoundRows,
    RowLookup,
    RowSettings,
    RowSnapshot,
    RowSource,
    read_rows,
)
from pexpolicy.text import brief, did_you_mean, printable

__all__ = [
    "ENDPOINTS",
    "MAX_BUDGET",
    "NO_EXTRAS",
    "PROTECTIONS",
    "SERVICE_TYPES",
    "UNSET",
    "Alias",
    "AliasMap",
    "AliasSet",
    "AudioMix",
    "AutomaticParticipant",
    "Avatar",
    "BreakerTable",
    "CacheFile",
    "CircuitBreaker",
    "Conference",
    "ConfigPath",
    "ConfigWarning",
    "Continue",
    "Credentials",
    "DataUnavailableError",
    "Decision",
    "DecisionError",
    "Directory",
    "DirectoryEntry",
    "DirectoryInformationRequest",
    "EndpointName",
    "Extras",
    "FieldsOf",
    "FoundRows",
    "Gateway",
    "Key",
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
    "Plugin",
    "PluginSettings",
    "Privacy",
    "Problem",
    "Redirect",
    "Refreshed",
    "RegistrationAliasRequest",
    "Reject",
    "Request",
    "RowLookup",
    "RowSettings",
    "RowSnapshot",
    "RowSource",
    "RowValues",
    "ScheduledJob",
    "SecretError",
    "Service",
    "ServiceConfigurationRequest",
    "SettingsError",
    "Source",
    "TestCall",
    "Transfer",
    "Unset",
    "ValidationIssue",
    "VirtualReception",
    "brief",
    "did_you_mean",
    "dotted_key",
    "get_logger",
    "hookimpl",
    "listed",
    "named_changes",
    "printable",
    "read_file",
    "read_rows",
    "read_secret",
    "schedule",
    "service_class",
    "track_file",
    "wall_clock",
]
