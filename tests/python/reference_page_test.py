#!/usr/bin/env python3
"""docs/control-api.md is what api/reference_page.py prints: documentation and code agree."""

import os
import subprocess
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


class ReferencePageTest(unittest.TestCase):
    def test_is_what_the_description_says(self):
        printed = subprocess.run([sys.executable, os.path.join(ROOT, "api/reference_page.py")],
                                 check=True, capture_output=True, text=True).stdout
        with open(os.path.join(ROOT, "docs/control-api.md"), encoding="ascii") as f:
            self.assertEqual(printed, f.read(),
                             "run python3 api/reference_page.py > docs/control-api.md")


if __name__ == "__main__":
    unittest.main()
