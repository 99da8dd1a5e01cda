"""Row in, message out (SPEC section 9): no clock, no randomness, no network.

jinja2 loads with the first renderer, so that a run with nothing to send does not pay for it.
"""

from alerts_engine.rendering.renderer import Renderer
from alerts_engine.rendering.template_check import check_templates
from alerts_engine.rendering.template_problem import TemplateProblem

__all__ = ["Renderer", "TemplateProblem", "check_templates"]
