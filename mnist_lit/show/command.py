"""The command show: digits in a picture and in words, and what a checkpoint reads in them."""

import re
from argparse import Namespace
from pathlib import Path

import matplotlib
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Subset

from mnist_lit.checkpoints import instantiate
from mnist_lit.data import MNISTDataModule, scaled
from mnist_lit.errors import InputError
from mnist_lit.files import whole
from mnist_lit.options import CommandParser
from mnist_lit.show.figures import digit_figure, digits_figure
from mnist_lit.training.evaluation import batches, load_trained, logits_of, outputs, worst_errors

NO_DISPLAY = "No display here: --output FILE.png writes the picture."
MOST = 100  # more digits in one picture would be too small to look at


def main(args: list[str]) -> None:
    """Run ``show``.

    Args:
        args: The command and its options.

    Raises:
        InputError: If something is wrong with them, or with the files they name.
    """
    options = _options(args[1:])
    opens_window = not options.output and _may_have_display()
    if not (options.output or opens_window):
        print(NO_DISPLAY, flush=True)  # before the work, which takes seconds
    trained = load_trained(options.ckpt_path) if options.ckpt_path else None
    model = trained.model if trained else None
    settings = trained.data if trained else {}
    if options.data_dir:
        settings["data_dir"] = options.data_dir
    data = instantiate(MNISTDataModule, settings)
    data.prepare_data()
    data.setup("test" if options.split == "test" else "fit")
    dataset = getattr(data, f"{options.split}_set")
    if not len(dataset):
        raise InputError(f"There are no {options.split} images.", "Choose another --split.")
    if options.wrong:
        assert model is not None
        indices = _wrong(options, *outputs(model, dataset, data.eval_batch_size))
    else:
        indices = _within(options, len(dataset))
    if not indices:
        return
    images, labels = next(iter(batches(Subset(dataset, indices), MOST)))
    logits = None if model is None else logits_of(model, images)
    print(words(options.split, indices, labels, logits), flush=True)
    figure = picture(scaled(images), labels, logits)
    if options.output:
        _write(figure, options.output)
    elif opens_window and not _open_window(figure):
        print(NO_DISPLAY)


def words(split: str, indices: list[int], labels: Tensor, logits: Tensor | None) -> str:
    """Say which digits these are and what a model answers; if there is only one, in full.

    Args:
        split: ``train``, ``val`` or ``test``.
        indices: The n places of the images in the split.
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``, or None without a model.
    """
    head = f"{split} image  label"
    width = len(f"{split} image")
    rows = [f"{i:{width}}  {label:5}" for i, label in zip(indices, labels.tolist(), strict=True)]
    if logits is None:
        return "\n".join([head, *rows])
    head += "  prediction  probability     loss"
    probabilities, predictions = (part.tolist() for part in logits.softmax(dim=1).max(dim=1))
    losses = _losses(labels, logits).tolist()
    for i, right in enumerate(logits.argmax(dim=1).eq(labels).tolist()):
        rows[i] += f"  {predictions[i]:10}  {probabilities[i]:11.2%}  {losses[i]:7.4f}"
        rows[i] += "" if right else "  wrong"
    if len(rows) == 1:
        rows.append(_output(int(labels), logits[0], losses[0]))
    return "\n".join([head, *rows])


def _output(label: int, logits: Tensor, loss: float) -> str:
    rows = ["", "The output, a logit for each digit, which softmax turns into probabilities:"]
    rows.append("digit     logit  probability")
    probabilities = logits.softmax(dim=0).tolist()
    for digit, logit in enumerate(logits.tolist()):
        row = f"{digit:5}  {logit:8.4f}  {probabilities[digit]:11.2%}"
        rows.append(f"{row}  label" if digit == label else row)
    rows.append(f"The loss is -log(probability of {label}) = {loss:.4f} nats.")
    return "\n".join(rows)


def picture(images: Tensor, labels: Tensor, logits: Tensor | None) -> Figure:
    """Draw digits, and what a model reads in them.

    Args:
        images: ``float32 (n, 1, 28, 28)`` in [0, 1].
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``, or None without a model.
    """
    if logits is None:
        return digits_figure(images, labels)
    probabilities = logits.softmax(dim=1)
    losses = _losses(labels, logits)
    if len(images) == 1:
        return digit_figure(images[0], int(labels), probabilities[0], losses.item())
    return digits_figure(images, labels, probabilities, losses)


def _losses(labels: Tensor, logits: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none").abs()  # of certainty it is -0.0


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("show", "Draw digits, and what a checkpoint reads in them.")
    add = parser.add_argument
    add("--split", choices=("train", "val", "test"), help="Default: train; with --wrong, test.")
    index_help = (
        f"Place in the split, from 0 on, or the range of those from A to before B, at most {MOST}. "
        "Default: 0; with --wrong, 0:16."
    )
    add("--index", type=_places, metavar="N|A:B", help=index_help)
    wrong_help = "Images that the checkpoint reads wrong; --index counts them, the worst first."
    add("--wrong", action="store_true", help=wrong_help)
    ckpt_help = "What reads them: a checkpoint, or best or last of the newest run. Default: none."
    add("--ckpt_path", metavar="FILE|best|last", help=ckpt_help)
    output_help = "Picture to write, .png or .svg. Default: a window shows it."
    add("--output", type=_picture_path, metavar="FILE", help=output_help)
    data_help = "Directory of the unpacked data. Default: the checkpoint's, or data."
    # The second name is that of fit and test, which error messages about data use.
    add("--data_dir", "--data.data_dir", metavar="DIR", help=data_help)
    options = parser.parse_args(args)
    if options.wrong and not options.ckpt_path:
        raise InputError(
            "--wrong needs a checkpoint, which reads the images.",
            "Give one, for instance the newest run's: --wrong --ckpt_path best",
        )
    options.split = options.split or ("test" if options.wrong else "train")
    options.index = options.index or range(16 if options.wrong else 1)
    return options


def _places(text: str) -> range:
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", text)
    if not match:
        raise InputError(
            f"--index {text} is no place.", "Give a number, 0 for the first, or a range: 0:16."
        )
    start = int(match[1])
    places = range(start, int(match[2]) if match[2] else start + 1)
    if not 1 <= len(places) <= MOST:
        raise InputError(
            f"--index {text} names {len(places)} images.",
            f"Give a range of 1 to {MOST}: 0:16 names sixteen, 0 to 15.",
        )
    return places


def _picture_path(text: str) -> Path:
    if Path(text).suffix.lower() not in (".png", ".svg"):
        raise InputError(f"--output {text} is no kind of picture.", "End it in .png or .svg.")
    return Path(text)


def _within(options: Namespace, count: int) -> list[int]:
    if options.index[-1] >= count:
        raise InputError(
            f"There is no {options.split} image {options.index[-1]}.",
            f"Its --index is one of 0 to {count - 1}.",
        )
    return list(options.index)


def _wrong(options: Namespace, labels: Tensor, logits: Tensor) -> list[int]:
    """The indices of the errors asked for; says how many there are."""
    errors: list[int] = worst_errors(labels, logits).tolist()
    before = options.index.start
    chosen = errors[before : options.index.stop]
    if chosen:
        shown = f"here the {'next' if before else 'worst'} {len(chosen)}"
        shown += f" after the worst {before}" if before else ""
    else:
        shown = f"none to show from --index {before} on"
    print(f"{len(errors):,} of {len(labels):,} {options.split} images are read wrong; {shown}.")
    return chosen


def _write(figure: Figure, path: Path) -> None:
    look = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "show"})
    with look, whole(path) as partial:  # text stays text; the same picture, the same file
        figure.savefig(partial, format=path.suffix[1:].lower(), metadata={"Date": None})
    print(f"Picture: {path}")


def _may_have_display() -> bool:
    """Whether matplotlib's backend, chosen by the user or found by itself, opens windows."""
    windowless = backend_registry.list_builtin(  # type: ignore[no-untyped-call]
        BackendFilter.NON_INTERACTIVE
    )
    return matplotlib.get_backend().lower() not in windowless


def _open_window(figure: Figure) -> bool:
    """Show a figure until its window is closed, if there can be one."""
    try:
        from matplotlib import pyplot

        # Without a display matplotlib takes a backend that has no windows.
        pyplot.figure(FigureClass=lambda **_: figure)  # type: ignore[arg-type]  # its window
    except Exception:  # a toolkit that is not installed, or cannot start, raises anything
        return False
    has_window = figure.canvas.required_interactive_framework is not None
    if has_window:
        pyplot.show()
    pyplot.close(figure)
    return has_window
