"""What the desk decides, and the names of its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from alerting.alert import Alert
from alerting.notification import Notification


class Reason(StrEnum):
    """Why the desk did, or left, something; also the label under which decisions are counted.

    Of a record:
    opened: a new incident.
    duplicate: the desk knew it already.
    out_of_order: it says that an incident fires, or is acknowledged, that is over.
    superseded: another incident of the same condition while the former is open; they are one conversation.
    reopened: the condition is back before all were told that it was over. The conversation goes on, and an end
    that was not sent yet is not.
    never_opened: the end of an incident whose begin the desk has not seen.
    resolved: the incident is over.
    flapping_held: the condition comes and goes; it is held open until it has been quiet.
    flapping_over: it has been quiet; the end that was held back counts now.
    acknowledged: somebody has taken the incident on.
    unknown_alert: no open incident has this id.
    stale: nothing has been heard of it for so long that it is closed.
    evicted: forgotten, as there are more incidents than the desk may hold.

    Of a route:
    recorded_only: it asks for nobody.
    nobody: all that it asks for come to no channel now, such as a rotation with nobody on call.
    grouped: it waits for its group's next message.

    A group has something to say:
    first_notification: something fires, and the channel has heard nothing of the group.
    new_alerts: something fires that the channel has not heard of.
    some_resolved: something is over, other alerts fire on.
    all_resolved: all that the channel has heard of is over.
    repeat_interval: nothing has changed for long, and it is still so.
    nothing_new: it was time to look, and there was nothing to say.

    Silences, mute times, inhibition:
    silenced, muted, inhibited: it is not told.
    silence_ended, mute_ended, inhibition_ended: what still fires is told now.
    resolved_while_muted: its end, held back until now, is told to those who had been told that it fires.
    silence_set, silence_unknown, too_many_silences: of a silence itself.

    Escalation:
    escalated: a step of the policy that notifies, before its first wait.
    not_acknowledged: one after it.
    escalation_skipped: a step that is due is left out; the note says why.
    handed_over: somebody else may be on call; who has not been told of what nobody has taken on is told.

    Of a notification about to be sent:
    still_true: all or some of it is to be said.
    never_told: the end of something of which this channel has not heard.
    already_resolved: it is over, or was when somebody acknowledged it.
    already_acknowledged: somebody has taken it on.
    covered: a later message of its group, which goes instead, says it too.

    policy_replaced: the rules of the desk are other ones from now on.
    """

    OPENED = "opened"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    SUPERSEDED = "superseded"
    REOPENED = "reopened"
    NEVER_OPENED = "never_opened"
    RESOLVED = "resolved"
    FLAPPING_HELD = "flapping_held"
    FLAPPING_OVER = "flapping_over"
    ACKNOWLEDGED = "acknowledged"
    UNKNOWN_ALERT = "unknown_alert"
    STALE = "stale"
    EVICTED = "evicted"
    RECORDED_ONLY = "recorded_only"
    NOBODY = "nobody"
    GROUPED = "grouped"
    FIRST_NOTIFICATION = "first_notification"
    NEW_ALERTS = "new_alerts"
    SOME_RESOLVED = "some_resolved"
    ALL_RESOLVED = "all_resolved"
    REPEAT_INTERVAL = "repeat_interval"
    NOTHING_NEW = "nothing_new"
    SILENCED = "silenced"
    MUTED = "muted"
    INHIBITED = "inhibited"
    SILENCE_ENDED = "silence_ended"
    MUTE_ENDED = "mute_ended"
    INHIBITION_ENDED = "inhibition_ended"
    RESOLVED_WHILE_MUTED = "resolved_while_muted"
    SILENCE_SET = "silence_set"
    SILENCE_UNKNOWN = "silence_unknown"
    TOO_MANY_SILENCES = "too_many_silences"
    ESCALATED = "escalated"
    NOT_ACKNOWLEDGED = "not_acknowledged"
    ESCALATION_SKIPPED = "escalation_skipped"
    HANDED_OVER = "handed_over"
    STILL_TRUE = "still_true"
    NEVER_TOLD = "never_told"
    ALREADY_RESOLVED = "already_resolved"
    ALREADY_ACKNOWLEDGED = "already_acknowledged"
    COVERED = "covered"
    POLICY_REPLACED = "policy_replaced"


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that the desk decided; `alert_id` is empty where it is about no single incident."""

    reason: Reason
    alert_id: str = ""
    notification: Notification | None = None
    """To be sent."""
    alert: Alert | None = None
    """To be published: the incident's new state, which nobody else knows of."""
    note: str = ""
