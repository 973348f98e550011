"""Every error that tidemark raises on purpose.

TidemarkError
├── ConfigError           wrong usage or configuration; the command line exits with 2
└── RunError              it ran and failed; the command line exits with 1
    ├── InputError        an input file cannot be read
    ├── BrokerUnavailable no broker answers, or it refuses
    ├── TakenOver         another worker has this one's instance id (agents/transports/static_member.py)
    └── StoreError        the checkpoint store failed
        ├── StoreUnavailable  it does not answer; trying again may help
        ├── Fenced            a newer owner has claimed the scope; this one must stop writing
        └── FellBehind        the store does not hold the checkpoint that was written last
"""


class TidemarkError(Exception):
    """Base of all; its message is one line for the person at the terminal."""


class ConfigError(TidemarkError):
    """Usage or configuration is wrong; the message names file, line or field, and what was expected."""


class RunError(TidemarkError):
    """The command was right but could not be carried out."""


class InputError(RunError):
    """An input file is missing, unreadable or not of the announced format."""


class BrokerUnavailable(RunError):
    """The broker cannot be reached or refuses the request."""


class StoreError(RunError):
    """The checkpoint store failed."""


class StoreUnavailable(StoreError):
    """The store does not answer."""


class Fenced(StoreError):
    """Another worker has claimed this scope since."""


class FellBehind(StoreError):
    """The store lost the last checkpoint: emptied, restored from a backup, or failed over too early."""
