"""Renders one template, in a process of its own with bounds that the kernel holds.

Run by `paddock.runtime.rendering` as a script, with a request as JSON on stdin and the
answer as JSON on stdout. Nothing of Paddock is imported here: starting has to be cheap.
"""

import contextlib
import json
import resource
import sys
from typing import Any

FILE = "<template>"
"""What Jinja calls a template that is not in a file."""


def main() -> None:
    request = json.load(sys.stdin)
    for name, bound in request["bounds"].items():
        # Where the system does not have the bound, the deadline of the parent is left.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (bound, bound))
    sys.path[:] = request["path"]
    answer = rendered(request["body"], request["values"], request["max_output"])
    json.dump(answer, sys.stdout)


def rendered(body: str, values: dict[str, str], max_output: int) -> dict[str, Any]:
    """`text`, or what the `error` is and the `line` that it is on."""
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    # What is left of them is data: the others are objects with methods and modules behind.
    kept = ("dict", "namespace", "range")
    environment.globals = {name: environment.globals[name] for name in kept}
    try:
        hidden = first_hidden_name(environment.parse(body))
        if hidden:
            return {"error": "names with __ are not for templates", "line": hidden}
        text, size = [], 0
        for piece in environment.from_string(body).generate(values):
            size += len(piece)
            if size > max_output:
                return {"error": f"the text is longer than {max_output} characters"}
            text.append(piece)
        return {"text": "".join(text)}
    except TemplateSyntaxError as error:
        return {"error": error.message, "line": error.lineno}
    except MemoryError:
        return {"error": "it took too much memory"}
    except RecursionError:
        return {"error": "it is nested too deeply"}
    except Exception as error:  # whatever an expression of a template raises
        return {"error": f"{error}" or type(error).__name__, "line": line_of(error)}


def first_hidden_name(template: Any) -> int:
    """The line of the first name, attribute or text in an expression with ``__``, or 0."""
    from jinja2 import nodes

    for node in template.find_all(nodes.Node):
        if isinstance(node, nodes.TemplateData):
            continue
        for _, value in node.iter_fields():
            values = value if isinstance(value, list) else [value]
            if any(isinstance(each, str) and "__" in each for each in values):
                return int(node.lineno)
    return 0


def line_of(error: BaseException) -> int:
    """The line of the template on which `error` was raised, or 0."""
    line, frame = 0, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == FILE:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


if __name__ == "__main__":
    main()
