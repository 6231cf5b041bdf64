"""The commands that the README shows are run as they stand, cut to a few batches."""

import re
import shlex
from pathlib import Path

import pytest

from mnist_lit.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHORT = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
]


def commands() -> list[list[str]]:
    """The options of the commands in the README's code blocks that end by themselves, in order."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    lines = re.findall(r"^python -m mnist_lit (.*)$", blocks, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if not line.startswith("serve")]


def test_every_command_of_the_readme_works(mnist_lit, tmp_path, data_dir):
    for folder in ("configs", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "class MyNet(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    assert len(commands()) > 5
    for command in commands():
        short = SHORT if command[0] == "fit" else []
        data = [] if command[0] in ("runs", "read") else [f"--data.data_dir={data_dir}"]
        outcome = mnist_lit(*command, *short, *data)
        assert outcome.status == 0, (command, outcome.err)


def test_the_readme_names_every_command_and_every_file_that_it_links():
    for command in COMMANDS:
        assert re.search(rf"^\| `{command}[ `]", README, re.MULTILINE), command
    for link in re.findall(r"\]\((?!http)(.+?)\)", README):
        assert (ROOT / link).exists(), link


def test_the_readme_is_short():
    assert len(README.split()) <= 1300


@pytest.mark.parametrize("document", ["CHANGELOG.md", "docs/experiments.md", "LICENSE"])
def test_the_other_documents_are_there(document):
    assert (ROOT / document).stat().st_size > 500
