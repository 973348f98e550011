"""Secrets of the configuration: from an environment variable or a file that a field names, never from the field."""

from collections.abc import Mapping
from pathlib import Path

from agents import config_values as values
from agents.config_file import Section


def secret_of_variable(section: Section, name: str, env: Mapping[str, str]) -> str:
    """The value of the environment variable that field `name` names; empty where the field is absent."""
    variable = section.take(name, values.text, "")
    if variable and not env.get(variable):
        section.mistake(name, f"the environment variable {variable} is not set")
    return env.get(variable, "") if variable else ""


def secret_of_file(section: Section, name: str, path: Path) -> bytes:
    """The contents of a file that field `name` names, without the line end that editors add; empty after a mistake."""
    try:
        secret = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        section.mistake(name, f'cannot read "{path}": {error.strerror or error}')
        return b""
    if not secret:
        section.mistake(name, f'expected a secret, "{path}" is empty')
    return secret


def text_of_file(section: Section, name: str, path: Path) -> str:
    """As `secret_of_file`, for a secret that is UTF-8 text."""
    try:
        return secret_of_file(section, name, path).decode("utf-8")
    except UnicodeDecodeError:
        section.mistake(name, f'cannot read "{path}": expected UTF-8 text')
        return ""
