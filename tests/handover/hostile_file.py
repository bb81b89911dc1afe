"""Model files that somebody has changed, with a manifest that fits what is in them."""

import hashlib
import json
import zipfile
from pathlib import Path


def entry_of(content: bytes) -> dict:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


def rewritten(source: Path, target: Path, changed: dict[str, bytes | None], manifest_change=lambda manifest: None,
              lists: bool = True) -> Path:
    """The file with other members (None leaves one out); the manifest lists them unless told otherwise."""
    members = contents(source)
    for name, content in changed.items():
        members.pop(name, None) if content is None else members.update({name: content})
    manifest = json.loads(members.pop("manifest.json"))
    if lists:
        manifest["files"] = {name: entry_of(content) for name, content in members.items()}
    manifest_change(manifest)
    with zipfile.ZipFile(target, "w") as parts:
        parts.writestr("manifest.json", json.dumps(manifest))
        for name, content in members.items():
            parts.writestr(zipfile.ZipInfo(name), content)
    return target
