"""Write `pcdistill/commands/usage.json`: the flags of all commands, and an example each from their pages."""

import json
import re
from pathlib import Path

from pcdistill.commands import COMMANDS, command
from pcdistill.commands.flags import usage
from pcdistill.commands.usage import FILE
from pcdistill.core.files import atomic

PAGES = Path(__file__).parents[1] / "docs" / "commands"


def listed() -> str:
    """The file's text: a flag a line, so that changes can be read and merged."""
    commands = []
    for name in COMMANDS:
        about, example, renamed, flags = usage(command(name), example_of(name))
        lines = ",\n".join(f"  {json.dumps(list(one), ensure_ascii=False)}" for one in flags)
        head = ",\n ".join(json.dumps(part, ensure_ascii=False) for part in (about, example, renamed))
        commands.append(f"{json.dumps(name)}: [\n {head},\n [\n{lines}\n ]\n]")
    return "{\n" + ",\n".join(commands) + "\n}\n"


def example_of(name: str) -> str:
    """The first command on its page, in one line."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8").replace("\\\n", "")
    found = re.search(rf"^\$ (pcdistill {name}\b.*)$", text, flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"docs/commands/{name}.md: no example, expected a line '$ pcdistill {name} ...'")
    return " ".join(found[1].split())


if __name__ == "__main__":
    with atomic(FILE) as temporary:
        temporary.write_text(listed(), encoding="utf-8")
