"""What the web console uses of the core, in addition to what plugins may use: their contract.

The console is released with the core and may import the names below from here, and public modules.
"""

# ruff: noqa: F401
from pexpolicy.access import refusals
from pexpolicy.access.access_control import Networks, TrustedProxies
from pexpolicy.access.certificates import CertificateError, CertificateFiles
from pexpolicy.access.certificates import load as load_certificate
from pexpolicy.access.credentials import LoginThrottle, VerificationPool, VerificationQueueFull
from pexpolicy.access.refusals import RefusalLog
from pexpolicy.access.warnings import console_exposure
from pexpolicy.audit.database import Database, DatabaseUnavailable
from pexpolicy.audit.records import as_json
from pexpolicy.audit.targets import LINE_START
from pexpolicy.audit.verify import Verification
from pexpolicy.background.shared import shared_state
from pexpolicy.builder import starting_policy
from pexpolicy.cli.audit import faults_in_database, paths_of
from pexpolicy.cli.common import EX_CONFIG, PORT, config_option, refuse
from pexpolicy.cli.explain import as_document, doubts, parse_at, requested
from pexpolicy.cli.http_client import admin_url
from pexpolicy.config.loader import load, secret_of
from pexpolicy.config.places import Places, grouped
from pexpolicy.config.secrets import PasswordHash
from pexpolicy.config.settings import Document, Tenants
from pexpolicy.fleet.last_good import Activation, copy_of, history, last_good
from pexpolicy.fleet.policy_hash import own_token
from pexpolicy.models.context import DryRunClock, at_time
from pexpolicy.models.request import parameters_of
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.replay.report import as_json as replay_as_json
from pexpolicy.replay.run import Job, Tally, run_replay
from pexpolicy.server.http.listener import bind, url_of
from pexpolicy.server.reload_triggers import ReloadResult, ask_for_reload
from pexpolicy.server.route_listeners import is_own_host
