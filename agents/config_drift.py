"""The section `drift` of the configuration file: references, and how models are compared with them."""

from pathlib import Path

from agents import config_values as values
from agents.config_file import Section
from agents.config_sections import DriftConfig
from tables.drift_policy import DriftPolicy
from tables.errors import ConfigError
from tables.join_policy import WINDOW_MS
from tables.reference import Reference

WEEK_MS = 7 * 86_400_000
NO_TEXTS: tuple[str, ...] = ()
BOTH: tuple[str, ...] = ("impressions", "inferences")


def read_drift(section: Section, folder: Path) -> DriftConfig:
    """`drift`: references (files), topics, horizon, minor, severe; `models` has the last three for some models.

    :param folder: what relative file names are relative to.
    """
    names = section.take("references", values.texts, NO_TEXTS)
    topics = section.take("topics", values.texts, BOTH)
    if unknown := set(topics) - set(BOTH):
        section.mistake("topics", f"expected some of impressions, inferences, got {', '.join(sorted(unknown))}")
    policy = _read_policy(section, DriftPolicy())
    models: list[tuple[str, DriftPolicy]] = []
    for own in section.sections("models"):
        glob = own.take("model", values.text, "")
        if "model" not in own:
            own.mistake("", 'expected the key model, such as "recommender-*"')
        models.append((glob, _read_policy(own, policy)))
        own.finish()
    section.finish()
    return DriftConfig(
        references=tuple(found for name in names if (found := _read_reference(section, folder / name)) is not None),
        policy=policy,
        models=tuple(models),
        from_impressions="impressions" in topics,
        from_inferences="inferences" in topics,
    )


def _read_policy(section: Section, default: DriftPolicy) -> DriftPolicy:
    try:
        return DriftPolicy(
            minor=section.take("minor", values.positive, default.minor),
            severe=section.take("severe", values.positive, default.severe),
            horizon_ms=section.take("horizon", values.whole_minutes(WINDOW_MS, WEEK_MS), default.horizon_ms),
            confidence=default.confidence,
        )
    except ConfigError as error:
        section.mistake("severe", str(error).partition(": ")[2])
        return default


def _read_reference(section: Section, path: Path) -> Reference | None:
    try:
        return Reference.from_json(path.read_bytes())
    except OSError as error:
        section.mistake("references", f'cannot read "{path}": {error.strerror or error}')
    except ConfigError as error:
        section.mistake("references", f'"{path}": {error}')
    return None
