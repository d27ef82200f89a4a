"""`pcdistill completion`: what a shell reads to complete commands and flags."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from pcdistill.commands import COMMANDS, EVERYWHERE
from pcdistill.commands.base import Command
from pcdistill.commands.usage import Flag, usages
from pcdistill.core.options import Positional
from pcdistill.core.progress import Say

BASH = """\
_pcdistill() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    case "$COMP_CWORD ${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
        "1 "*) words="{commands} --help --version" ;;
{values}
    esac
    [ -n "$words" ] || case ${{COMP_WORDS[1]}} in
{flags}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _pcdistill pcdistill
"""


class Completion(Command):
    """Print what a shell needs to complete commands, flags and their values with the tab key."""

    shell: Annotated[Literal["bash", "zsh", "fish"], Positional, Field(description="bash, zsh or fish")]

    def run(self, say: Say) -> None:
        if self.shell == "fish":
            say("\n".join(_fish()))
            return
        say(("autoload -U +X bashcompinit && bashcompinit\n" if self.shell == "zsh" else "") + _bash())


def _bash() -> str:
    values, flags, everywhere = [], [], " ".join(EVERYWHERE)
    for name, usage in usages().items():
        for one in usage.flags:
            if (choices := _choices(one)) and one.name.startswith("--"):
                values.append(f'        *" {name} {one.name}") words="{choices}" ;;')
        words = " ".join(one.name if one.name.startswith("--") else _choices(one) for one in usage.flags)
        flags.append(f'        {name}) words="{" ".join(words.split())} --config {everywhere} --help" ;;')
    return BASH.format(commands=" ".join(COMMANDS), values="\n".join(values), flags="\n".join(flags))


def _fish() -> Iterator[str]:
    for name, purpose in COMMANDS.items():
        yield f"complete -c pcdistill -n __fish_use_subcommand -f -a {name} -d {_quoted(purpose)}"
    for name, usage in usages().items():
        here = f"complete -c pcdistill -n '__fish_seen_subcommand_from {name}'"
        for one in usage.flags:
            choices = f" -f -a {_quoted(_choices(one))}" if _choices(one) else ""
            if one.name.startswith("--"):
                value = "" if one.kind == "switch" else " -r"
                yield f"{here} -l {one.name.removeprefix('--')}{value}{choices} -d {_quoted(one.meaning)}"
            elif choices:
                yield here + choices


def _choices(one: Flag) -> str:
    """The values that there are, with blanks between; nothing where any will do."""
    word = one.metavar
    if one.kind in ("word", "words"):  # what its values are is said in words
        named = re.fullmatch(r"[\w-]+(?:, [\w-]+)* or [\w-]+|list", one.meaning)
        return re.sub(r", | or ", " ", named[0]) if named else ""
    return word[1:-1].replace(",", " ") if word.startswith("{") else ""


def _quoted(text: str) -> str:
    """For fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
