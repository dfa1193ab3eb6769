"""The paper's Tables 1 and 2 (arXiv:1409.1556) from the library's own data, beside the numbers that are printed there.

    python recipes/paper_table.py

Table 1 is `COLUMNS` and `FILTERS` of `vggft/network/blocks.py`, from which every network here is built. Table 2 counts
the parameters of these networks with the paper's three dense layers, at 224 px: 132.9, 132.9, 133.0, 133.6, 138.4 and
143.7 million. Rounded they are the paper's 133 (A and A-LRN), 133, 134, 138 and 144. No data, no seeds; 0.3 s.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from math import prod

from vggft.network.blocks import BLOCKS, COLUMNS, FILTERS, kernel_shapes

PAPER = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}  # its Table 2, in millions
DENSE = (7 * 7 * FILTERS[-1], 4096, 4096, 1000)  # from the last maps of 224 px to the classes of ImageNet


def layers(column: str) -> list[list[str]]:
    """Return the rows of Table 1 for a column, block by block: `[["conv3-64"], ["conv3-128"], ...]`."""
    rows = [[f"conv{k}-{n}" for k in kernels] for kernels, n in zip(COLUMNS[column], FILTERS, strict=True)]
    return [[*rows[0], "LRN"], *rows[1:]] if column == "A-LRN" else rows


def parameters(column: str) -> int:
    """Count kernels and biases of a column with its three dense layers."""
    kernels = [*kernel_shapes(column, 1.0).values(), *pairwise(DENSE)]
    return sum(prod(shape) + shape[-1] for shape in kernels)


def weight_layers(column: str) -> int:
    return sum(map(len, COLUMNS[column])) + len(DENSE) - 1


def line(*cells: object) -> str:
    return "".join(f"{cell!s:<11}" for cell in cells).rstrip()


def main() -> None:
    table = {column: layers(column) for column in COLUMNS}
    print("Table 1\n" + line(*COLUMNS))
    print(line(*(f"{weight_layers(column)} layers" for column in COLUMNS)))
    for n in range(len(BLOCKS)):
        for k in range(max(len(blocks[n]) for blocks in table.values())):
            print(line(*("".join(blocks[n][k : k + 1]) for blocks in table.values())))
        print(line(*["maxpool"] * len(COLUMNS)))
    print("FC-4096, FC-4096, FC-1000, soft-max\n\nTable 2, millions of parameters")
    print(line("", *COLUMNS))
    print(line("here", *(f"{parameters(column) / 1e6:.1f}" for column in COLUMNS)))
    print(line("paper", *PAPER.values()))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
