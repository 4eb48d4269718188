"""Types of fields: the nested ones of services, and settings with the fields of a decision."""

from pexpolicy.endpoints.decision_fields import FieldsOf
from pexpolicy.endpoints.participant_properties import AudioMix
from pexpolicy.endpoints.service_types import AutomaticParticipant, OnCompletion, Transfer
from pexpolicy.models.decision import Unset

__all__ = ["AudioMix", "AutomaticParticipant", "FieldsOf", "OnCompletion", "Transfer", "Unset"]
