"""What a chat template reads beside the conversation: its arguments.

vLLM finds them in the same way, and gives a template no other ones.
"""

from __future__ import annotations

from slipway_core.resources.model import TAKEN_ARGUMENTS


def read_by(template: str) -> set[str]:
    """Returns the variables that are neither the conversation's nor the tokenizer's; none of what is no template."""
    from jinja2 import TemplateSyntaxError, meta
    from transformers.utils.chat_template_utils import _compile_jinja_template  # pyright: ignore[reportPrivateUsage]

    try:
        environment = _compile_jinja_template(template).environment
        found = meta.find_undeclared_variables(environment.parse(template))
    except TemplateSyntaxError:
        return set()  # Whoever renders it says what is wrong.
    return found - set(TAKEN_ARGUMENTS) - set(environment.globals)
