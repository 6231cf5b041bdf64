"""How soon the page answers after the pen was lifted, in the Chromium of this machine.

The server, the browser and this script run on the same machine. Milliseconds go from the event of
the pen's lifting, in the page, to the change of the digits shown there: the drawing becomes a
picture, is sent, read, and its answer written down. Each round writes a 7 on an empty sheet; the
first three, in which the browser and the server warm up, are not counted.

What this does not show: a network, a slow phone's processor, or the time to the next frame.
"""

import argparse

from benchmarks.common import footer, spread, table
from tests.support.browser import DEVICES, browsing, serving

BAR = 150  # milliseconds, for the median
WATCH = """
addEventListener("pointerup", () => (window.lifted = performance.now()), true);
new MutationObserver((changes) => {
  if (changes.some(({ target }) => target.id === "digits")) window.answered = performance.now();
}).observe(document, { childList: true, subtree: true });
"""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50, help="rounds (default: 50)")
    repeats = parser.parse_args().repeats
    rows = [["", "median", "min", "max", "bar"]]
    with serving() as address, browsing() as browser:
        for device in DEVICES:
            waits = []
            with browser.visit(address, device, script=WATCH) as visit:
                for _ in range(repeats + 3):
                    visit.write("7")
                    visit.shows("7")
                    waits.append(visit.page.evaluate("answered - lifted"))
                    visit.page.keyboard.press("Escape")
                    visit.shows()
            rows.append([device, *spread(waits[3:], digits=0), str(BAR)])
    print(f"From pen-up to the answer, milliseconds over {repeats} rounds\n\n{table(rows)}")
    print(footer())


if __name__ == "__main__":
    main()
