"""Whether a JSON document is as a schema says: the few words of JSON Schema that `study.schema.json` uses."""

from typing import Any

KINDS = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
    "boolean": (bool,),
}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Where the value is not as the schema says, in words; none if all is well."""
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].split("/")[-1]], root, at)
    if "anyOf" in schema:
        answers = [faults(value, choice, root, at) for choice in schema["anyOf"]]
        return [] if any(not answer for answer in answers) else answers[-1]
    if "const" in schema and value != schema["const"]:
        return [f"{at} is {value!r}, not {schema['const']!r}"]
    kinds = schema.get("type", [])
    allowed = tuple(kind for name in ([kinds] if isinstance(kinds, str) else kinds) for kind in KINDS[name])
    if allowed and not isinstance(value, allowed):
        return [f"{at} is {type(value).__name__}, not {kinds}"]
    found: list[str] = []
    if isinstance(value, dict):
        found += [f"{at}.{name} is missing" for name in schema.get("required", []) if name not in value]
        known = schema.get("properties", {})
        for name, part in value.items():
            expected = known.get(name, schema.get("additionalProperties", {}))
            found += faults(part, expected, root, f"{at}.{name}")
    if isinstance(value, list):
        for place, part in enumerate(value):
            found += faults(part, schema.get("items", {}), root, f"{at}[{place}]")
    return found
