"""The commands of the command line with the settings of each."""

import typer

from mashup.cli.__main__ import make_app

#: Name to command; ``options`` is the pydantic model of its flags.
VERBS = typer.main.get_command(make_app()).commands


def options_of(verb):
    """The settings of the command ``verb``."""
    return VERBS[verb].options


def flags_of(verb):
    """Fields by the name of their flag, without dashes in front; positional ones too."""
    return {field.alias or key: field for key, field in options_of(verb).model_fields.items()}


def is_positional(field):
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("positional"))
