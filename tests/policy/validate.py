"""Validates every object strictly: Kubernetes' own by the schemas that kubernetes-validate bundles, custom resources by
the schema in their definition. A kind without a schema is a fault, and so is a field that a schema does not know.

Usage: validate.py KUBERNETES_VERSION DEFINITIONS_FOLDER MANIFESTS...
"""

import logging
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def strict(schema):
    """The same schema, with unknown fields refused, as the API server's strict validation does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


def definitions(folder):
    """The schemas of custom resources by (apiVersion, kind)."""
    found = {}
    for path in pathlib.Path(folder).glob("*.yaml"):
        for definition in yaml.safe_load_all(path.read_text()):
            if not definition:
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # Their own schemas leave the metadata open.
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def fault(item, version, custom):
    """What is wrong with an object, if anything is."""
    schema = custom.get((item["apiVersion"], item["kind"]))
    try:
        if schema is None:
            kubernetes_validate.validate(item, version, strict=True)
        else:
            jsonschema.Draft202012Validator(schema).validate(item)
    except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        return f"no schema: {error}"
    return None


def main():
    version, folder, *files = sys.argv[1:]
    logging.disable(logging.INFO)
    custom = definitions(folder)
    total = faults = 0
    for name in files:
        for item in yaml.safe_load_all(pathlib.Path(name).read_text()):
            total += 1
            wrong = fault(item, version, custom)
            if wrong:
                faults += 1
                print(f"{name}: {item['kind']}/{item['metadata']['name']}: {wrong}")
    print(f"{total} objects, {faults} not as their schemas say")
    return 1 if faults or not total else 0


sys.exit(main())
