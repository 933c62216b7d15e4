#!/usr/bin/env python3
"""Holds api/cordon.api.json to its own format, and the other lists of its words to it.

    python3 tests/python/description_test.py
"""

import json
import os
import re
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "api/python"))
import cordon  # noqa: E402

# What only the client itself says.
LOCAL_REASONS = {"no_manager", "truncated"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="ascii") as f:
        return f.read()


def without_repetition(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), names
    return dict(pairs)


class DescriptionTest(unittest.TestCase):
    def setUp(self):
        self.api = json.loads(read("api/cordon.api.json"), object_pairs_hook=without_repetition)
        self.types = self.api["types"]
        self.shape_names = set(self.api["format"]["shapes"])
        self.shape_keys = {key for keys in self.api["format"]["keys"] for key in keys.split(", ")}
        self.shape_keys |= {"doc", "switch"}

    def check_shapes(self, where, shapes):
        for name, shape in shapes.items():
            self.assertRegex(name, "^[a-z][a-z0-9_]*$")
            self.check_shape("%s.%s" % (where, name), shape)

    def check_shape(self, where, shape):
        self.assertIn(shape["type"], self.shape_names, where)
        self.assertLessEqual(set(shape), self.shape_keys, where)
        self.assertFalse(shape.get("required") and "default" in shape, where)
        self.check_shapes(where, shape.get("fields", {}))
        if shape["type"] == "array":
            self.check_shape(where + "[]", shape["items"])
        if shape["type"] == "one_of":
            for i, one in enumerate(shape["shapes"]):
                self.check_shape("%s|%d" % (where, i), one)
        if shape["type"] == "object":
            self.assertTrue({"of", "fields", "open"} & set(shape), where)
        named = shape.get("of", [])
        for name in named.values() if isinstance(named, dict) else [named] if named else []:
            self.assertIn(name, self.types, where)
        if "default" in shape:
            self.assertTrue(self.is_default(shape), where)

    def is_default(self, shape):
        value, kind = shape["default"], shape["type"]
        if kind == "integer":
            return shape.get("min", value) <= value <= shape.get("max", value)
        if kind == "timeout":
            return value == "infinity" or value >= 1
        if kind == "string":
            return value in shape.get("enum", [value])
        return isinstance(value, {"boolean": bool, "array": list, "object": dict}[kind])

    def test_types(self):
        for name, a_type in self.types.items():
            self.assertTrue(a_type["doc"], name)
            self.assertLessEqual(set(a_type), {"doc", "fields", "includes", "fault", "open"})
            self.check_shapes(name, a_type["fields"])
            seen = set(a_type["fields"])
            for included in a_type.get("includes", []):
                self.assertNotIn("includes", self.types[included])
                self.assertFalse(seen & set(self.types[included]["fields"]), name)
                seen |= set(self.types[included]["fields"])

    def test_methods(self):
        keys = {"summary", "role", "alias", "since", "params", "result", "errors", "fds_in",
                "fds_out", "moves"}
        for name, method in self.api["methods"].items():
            self.assertRegex(name, r"^(ssl|cordon)\.[a-z_]+$")
            self.assertEqual(keys, set(method) - {"exactly_one"}, name)
            self.assertIn(method["role"], ("any", "owner", "administrator"))
            self.check_shapes(name, method["params"])
            self.check_shapes(name, method["result"])
            for group in method.get("exactly_one", []):
                self.assertLessEqual(set(group), set(method["params"]), name)
            self.assertLessEqual(set(method["errors"]), set(self.api["errors"]), name)
            self.assertFalse(set(method["errors"]) & set(self.api["common_errors"]), name)
            for alias in method["alias"]:
                self.assertNotIn(alias, self.api["methods"])

    def test_room_for_descriptors_is_what_the_parameters_can_name(self):
        for name, method in self.api["methods"].items():
            most = max((self.descriptors(chosen) for chosen in self.choices(method)), default=0)
            self.assertEqual(most, method["fds_in"]["max"], name)
            least = sum(1 for p in method["params"].values() if p.get("required") and
                        "fd_kind" in p)
            self.assertEqual(least, method["fds_in"]["min"], name)

    def choices(self, method):
        """The parameters, once for each type that a `switch` may choose."""
        options = method["params"].get("options", {})
        of = options.get("of", [])
        for name in of.values() if isinstance(of, dict) else [of] if of else [None]:
            chosen = dict(method["params"])
            chosen.pop("options", None)
            if name:
                for part in [name] + self.types[name].get("includes", []):
                    chosen.update(self.types[part]["fields"])
            yield chosen

    def descriptors(self, params):
        return sum(1 for p in params.values() if p["type"] in ("file", "secret") or "fd_kind" in p)

    def test_events(self):
        for name, event in self.api["events"].items():
            self.check_shapes(name, event["params"])
            self.assertIn(event["to"], ("owner", "subscriber", "everyone"))
            self.assertTrue(event["summary"])

    def test_errors(self):
        for reason, error in self.api["errors"].items():
            self.check_shapes(reason, error["fields"])
            self.assertIn(error["code"], (-32700, -32600, -32601, -32602, -32050, -32000))
            self.assertTrue(error["text"])
        for reason in self.api["common_errors"]:
            self.assertIn(reason, self.api["errors"])

    def test_reasons_are_those_of_results_def(self):
        told = read("ipc/results.def").split("What clients are told")[1].split("/*")[0]
        listed = dict(re.findall(r'RESULT\(\w+, "(\w+)",\s*"([^"]*)"\)', told))
        self.assertEqual({reason: error["text"] for reason, error in self.api["errors"].items()},
                         listed)

    def test_python_has_no_other_reasons_files_or_methods(self):
        self.assertLessEqual(set(cordon._ERROR_CLASSES) - LOCAL_REASONS, set(self.api["errors"]))
        files, secrets = set(), set()
        for a_type in self.types.values():
            for name, shape in a_type["fields"].items():
                if shape["type"] == "file":
                    files.add(name)
                elif shape["type"] == "secret":
                    secrets.add(name)
        self.assertEqual((files, secrets), (cordon._FILE_OPTIONS, cordon._SECRET_OPTIONS))
        source = read("api/python/cordon.py")
        used = set(re.findall(r'"((?:ssl|cordon)\.[a-z_]+)"', source)) - {"cordon.event"}
        used |= {"cordon." + what for what in re.findall(r'_pages\("(\w+)"', source)}
        self.assertEqual(set(self.api["methods"]) - used, {"ssl.connection_info"})
        self.assertEqual(used - set(self.api["methods"]), set())


if __name__ == "__main__":
    unittest.main()
