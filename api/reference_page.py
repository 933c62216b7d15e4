#!/usr/bin/env python3
"""Prints docs/control-api.md: the reference of the control API, made from api/cordon.api.json.

    python3 api/reference_page.py > docs/control-api.md
"""

import json
import os
import sys

HEAD = """# The control API

Made from `api/cordon.api.json` by `api/reference_page.py`; do not edit.  A running Cordon says the
same with `cordon call cordon.describe`.

JSON-RPC 2.0, one object a line, both ways, on a Unix stream socket: `--socket`, `$CORDON_SOCKET`,
`$XDG_RUNTIME_DIR/cordon/control.sock` when not root, `/run/cordon/control.sock`.  A line with
descriptors says `"fds": N`; parameters and results name them by position (`"fd_index": 0`).
"""


def type_of(shape):
    kind = shape["type"]
    if kind == "array":
        return "array of " + type_of(shape["items"])
    if kind == "one_of":
        return " or ".join(type_of(s) for s in shape["shapes"])
    of = shape.get("of")
    if isinstance(of, dict):
        return " or ".join(f"[{name}](#{name})" for name in of.values())
    return f"[{of}](#{of})" if of else kind.replace("_", " ")


def limits_of(shape):
    said = []
    if "enum" in shape:
        said.append(", ".join(f"`{word}`" for word in shape["enum"]))
    low = shape.get("min", shape.get("min_bytes", shape.get("min_items")))
    high = shape.get("max", shape.get("max_bytes", shape.get("max_items")))
    unit = " bytes" if "max_bytes" in shape else " items" if "max_items" in shape else ""
    unit = " " + shape["unit"] if "unit" in shape else unit
    if low is not None and high is not None:
        said.append(f"{low} to {high}{unit}")
    elif high is not None:
        said.append(f"at most {high}{unit}")
    elif low is not None:
        said.append(f"at least {low}{unit}")
    elif unit:
        said.append(unit.strip())
    if shape.get("required"):
        said.append("required")
    if shape.get("nullable"):
        said.append("may be null")
    if "default" in shape and shape["default"] != {}:
        said.append(f"default `{json.dumps(shape['default'])}`")
    return "; ".join(said)


def fields(shapes, indent=""):
    for name, shape in shapes.items():
        parts = [type_of(shape), limits_of(shape)]
        text = f"{indent}* `{name}`: " + "; ".join(p for p in parts if p) + "."
        yield text + (" " + shape["doc"] if "doc" in shape else "")
        if "fields" in shape:
            yield from fields(shape["fields"], indent + "  ")


def method(name, m):
    yield f"\n### {name}\n\n{m['summary']}"
    if m["alias"]:
        yield "Also called " + ", ".join(f"`{a}`" for a in m["alias"]) + "."
    yield f"Who may: {m['role']}.\n"
    if m["params"]:
        yield "Parameters:\n"
        yield from fields(m["params"])
        for group in m.get("exactly_one", []):
            yield "\nExactly one of " + ", ".join(f"`{p}`" for p in group) + "."
    yield "\nResult:" + ("\n" if m["result"] else " `{}`.")
    yield from fields(m["result"])
    if m["errors"]:
        yield "\nMay fail with " + ", ".join(f"`{e}`" for e in m["errors"]) + "."
    if m.get("moves"):
        yield "\nWhat it changes: " + m["moves"]


def page(api):
    yield HEAD
    yield "## Methods"
    for name, m in api["methods"].items():
        yield from method(name, m)
    yield "\n## Events"
    for name, event in api["events"].items():
        yield f"\n### {name}\n\n{event['summary']}  To: {event['to']}.\n"
        yield from fields(event["params"])
    yield "\n## Types"
    for name, t in api["types"].items():
        yield f"\n### {name}\n\n{t['doc']}"
        if "includes" in t:
            yield "Has also what these have: " + ", ".join(
                f"[{i}](#{i})" for i in t["includes"]) + "."
        yield ""
        yield from fields(t["fields"])
    yield "\n## Errors\n\n`{\"code\", \"message\", \"data\": {\"reason\", ...}}`.  Any method may fail with "
    yield ", ".join(f"`{e}`" for e in api["common_errors"]) + ".\n"
    for name, error in api["errors"].items():
        yield f"* `{name}` ({error['code']}): {error['text']}."
        yield from fields(error["fields"], "  ")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "cordon.api.json"), encoding="ascii") as f:
        sys.stdout.write("\n".join(page(json.load(f))) + "\n")


if __name__ == "__main__":
    main()
