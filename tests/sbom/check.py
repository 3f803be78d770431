"""Holds every SBOM that hangs on an image against the SPDX 2.3 specification, by the SPDX project's own validator.

python3 tests/sbom/check.py IMAGES    IMAGES: the folder of `nix build .#images`
"""

import json
import sys
import tempfile
from pathlib import Path

from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document


def documents(layout):
    """The SPDX documents of a layout, by the digest of the artifact that holds each."""

    def blob(descriptor):
        return layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")

    for entry in json.loads((layout / "index.json").read_text())["manifests"][1:]:
        for artifact in json.loads(blob(entry).read_text())["manifests"]:
            if artifact["artifactType"] == "application/spdx+json":
                [document] = json.loads(blob(artifact).read_text())["layers"]
                yield artifact["digest"], blob(document).read_text()


passed = failed = 0
for layout in sorted(Path(sys.argv[1]).iterdir()):
    found = list(documents(layout))
    for digest, text in found:
        with tempfile.NamedTemporaryFile("w", suffix=".spdx.json") as file:
            file.write(text)
            file.flush()
            faults = [fault.validation_message for fault in validate_full_spdx_document(parse_file(file.name))]
        if faults:
            failed += 1
            print(f"FAILED  {layout.name} {digest}:", *faults[:10], sep="\n  ")
        else:
            passed += 1
            print(f"ok      {layout.name}: an SPDX document of {len(json.loads(text)['packages'])} packages")
    if len(found) != 2:
        failed += 1
        print(f"FAILED  {layout.name} has {len(found)} SBOMs, not one for each of two platforms")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
