"""Write the tables of every folder here, and those of the project's README, from the committed records; or check them.

python -m benchmarks.tables           # rewrite the marked blocks
python -m benchmarks.tables --check   # exit 1 if a block differs from its records

A folder's `table.py` makes its tables of the records beside it; a table stands where `<!-- table: NAME -->` says.
"""

import argparse
import importlib
import re
import sys
from pathlib import Path

from pcdistill.core.files import atomic

HERE = Path(__file__).parent
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(root: Path = HERE) -> dict[str, str]:
    """All tables by their names, of the records in the folders of `root`."""
    made: dict[str, str] = {}
    for path in sorted(HERE.glob("*/table.py")):
        name = path.parent.name
        if (root / name).exists():
            made |= importlib.import_module(f"benchmarks.{name}.table").tables(root / name)
    return made


def files(root: Path = HERE) -> list[Path]:
    """Those that have tables."""
    return [root.parent / "README.md", *sorted(root.glob("*/README.md"))]


def filled(text: str, made: dict[str, str]) -> str:
    """`text` with every block made anew."""
    return BLOCK.sub(lambda match: match[1] + made[match[2]] + match[3], text)


def main(root: Path = HERE) -> int:
    """Rewrite or check the files that hold tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check, made = parser.parse_args().check, tables(root)
    stale = [file for file in files(root) if filled(file.read_text(), made) != file.read_text()]
    for file in stale:
        if check:
            print(f"{file}: tables differ from the records; run python -m benchmarks.tables")
            continue
        with atomic(file) as temporary:
            temporary.write_text(filled(file.read_text(), made))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
