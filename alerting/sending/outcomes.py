"""What can become of a notification on a channel; the names under which it is counted and logged."""

from __future__ import annotations

from typing import Final, Literal, get_args

#: Each notification ends on a channel in exactly one of these, except for the last three: `retried` counts the attempts
#: that failed and were followed by another, `fell_back` and `dead` say what came after a failure.
Outcome = Literal[
    "sent",
    "digested",  # sent, together with others
    "already_sent",  # by an earlier owner of its partition
    "withdrawn",  # acknowledged or resolved meanwhile, or its partition was given up
    "fenced",  # its partition has another owner, who sends it
    "refused",  # the channel said that trying again is of no use
    "gave_up",  # tries or time ran out
    "broken",  # the channel, or the making of the text, raised what it should not
    "avoided",  # not tried: the channel is known to be down, or throttled for long, and another stands in
    "queue_full",
    "no_channel",  # there is none of that name
    "retried",
    "fell_back",  # went on to the channel that stands in
    "dead",
]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
