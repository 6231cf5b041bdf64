"""Alignment: which line of a picture is which line of the text that was written."""

from collections.abc import Sequence


def aligned(read: Sequence[str], text: Sequence[str]) -> list[tuple[int, int]]:
    """Match the lines that were read with those of a text, in order.

    Only lines of equal length match. Of all ways to match them, that with most digits in common
    is taken, and of these the one with most lines: the longest common subsequence of lines,
    weighted by how well they agree.

    Args:
        read: What was read, line by line.
        text: What was written, line by line.

    Returns:
        Pairs of a line that was read and a line of the text, both counted from 0.
    """
    best: list[list[tuple[float, list[tuple[int, int]]]]] = [
        [(0.0, [])] * (len(text) + 1) for _ in range(len(read) + 1)
    ]
    for i, found in enumerate(read):
        for j, wanted in enumerate(text):
            options = [best[i][j + 1], best[i + 1][j]]
            if len(found) == len(wanted):
                common = sum(a == b for a, b in zip(found, wanted, strict=True))
                score, pairs = best[i][j]
                options.append((score + common + 0.5, [*pairs, (i, j)]))
            best[i + 1][j + 1] = max(options, key=lambda option: option[0])
    return best[-1][-1][1]
