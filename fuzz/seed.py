#!/usr/bin/env python3
"""Writes the corpora to begin with out of the cases of tests/rows: `python fuzz/seed.py [FOLDER…]`.

Templates in FOLDERs (*.jinja) are added to the corpus of `templates`.
"""
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
CASES = HERE.parent / "tests" / "rows" / "cases"
CHAT = [{"role": "system", "content": "short"}, {"role": "user", "content": "a <b>"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": ""}, {"role": "assistant", "content": "é"}]


def write(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def conversation(folder):
    """The first conversation of a case, as the target reads it after the template."""
    data = json.loads((folder / "case.json").read_text())["data"]
    if data == "rows.jsonl":
        for line in (folder / data).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if isinstance(row.get("messages"), list):
                return {"messages": row["messages"], "tools": row.get("tools")}
    return {"messages": CHAT, "tools": None}


for folder in sorted(CASES.iterdir()):
    for template in [*folder.glob("*.jinja"), *folder.glob("*/*.jinja")]:
        write("templates", f"{folder.name}-{template.stem}", template.read_bytes() + b"\0" + json.dumps(conversation(folder)).encode())
    for rows in folder.glob("rows.*"):
        write("rows", f"{folder.name}{rows.suffix}", rows.read_bytes())
for folder in sys.argv[1:]:
    for template in Path(folder).glob("*.jinja"):
        write("templates", template.stem, template.read_bytes() + b"\0" + json.dumps({"messages": CHAT, "tools": None}).encode())
for target in ["templates", "rows"]:
    print(target, len(list((HERE / "corpus" / target).iterdir())))
