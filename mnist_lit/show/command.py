"""The command show: digits as a figure and a table, with the predictions of a checkpoint."""

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
from mnist_lit.data import scaled
from mnist_lit.datasets import class_legend
from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write
from mnist_lit.options import CommandParser
from mnist_lit.own_digits.data import OwnDigitsDataModule
from mnist_lit.show.figures import (
    add_legend,
    digit_figure,
    digits_figure,
    occlusion_figure,
)
from mnist_lit.show.label_errors import check_table, find_label_errors, out_of_fold, write_table
from mnist_lit.show.occlusion import occlusion_maps
from mnist_lit.training.evaluation import (
    batches,
    load_trained_model,
    outputs,
    predict_logits,
    worst_errors,
)

NO_DISPLAY = "There is no display: write the figure to a file with --output FILE.png."
MAX_DIGITS = 100  # more would be too small to see


def main(args: list[str]) -> None:
    """Run ``show``.

    Args:
        args: The command and its options.

    Raises:
        InputError: If an option or a file it names is invalid.
    """
    options = _options(args[1:])
    opens_window = not options.output and _may_have_display()
    if not (options.output or opens_window):
        print(NO_DISPLAY, flush=True)  # before the work, which takes seconds
    figure, names = (_label_errors if options.label_errors else _digits)(options)
    if figure is None:
        return
    if legend := class_legend(names):
        print(f"Classes: {legend}")
        add_legend(figure, legend)
    if options.output:
        _write(figure, options.output)
    elif opens_window and not _open_window(figure):
        print(NO_DISPLAY)


def _digits(options: Namespace) -> tuple[Figure | None, list[str]]:
    """Print the table of the requested digits, and draw them, if there are any.

    Returns:
        The figure, or None, and the names of the classes.
    """
    trained = load_trained_model(options.ckpt_path[0]) if options.ckpt_path else None
    model = trained.model if trained else None
    settings = trained.data if trained else {}
    given = {"data_dir": options.data_dir, "own_dir": options.own_dir}
    settings |= {name: value for name, value in given.items() if value}
    data = instantiate(OwnDigitsDataModule, settings)
    data.prepare_data()
    data.setup("test" if options.split == "test" else "fit")
    dataset = getattr(data, f"{'own_' if options.own_dir else ''}{options.split}_set")
    if not len(dataset):
        raise InputError(f"There are no {options.split} images.", "Choose another --split.")
    if options.wrong:
        assert model is not None
        indices = _wrong(options, *outputs(model, dataset, data.eval_batch_size))
    else:
        indices = _within(options, len(dataset))
    if not indices:
        return None, data.class_names
    images, labels = next(iter(batches(Subset(dataset, indices), MAX_DIGITS)))
    logits = None if model is None else predict_logits(model, images)
    print(summary(options.split, indices, labels, logits), flush=True)
    if options.explain:
        assert model is not None
        assert logits is not None
        outcome = labels, logits.softmax(dim=1), _losses(labels, logits)
        maps = occlusion_maps(model, images)
        return occlusion_figure(scaled(images), maps, *outcome), data.class_names
    return draw(scaled(images), labels, logits), data.class_names


def _label_errors(options: Namespace) -> tuple[Figure | None, list[str]]:
    """Print the table of the requested label errors, and draw them, if there are any.

    Returns:
        The figure, or None, and the names of the classes.
    """
    table = options.output and options.output.with_suffix(".csv")
    if table:
        check_table(table)
    digits, logits, names = out_of_fold(options.ckpt_path, options.data_dir)
    probabilities = logits.softmax(dim=1)
    found, margins = find_label_errors(digits.labels, probabilities)
    before = options.index.start
    chosen = found[before : options.index.stop]
    shown = f"showing {before + 1} to {before + len(chosen)} by margin"
    right = float(probabilities.argmax(dim=1).eq(digits.labels).double().mean())
    print(f"Accuracy of the models on the images that they were not trained on: {right:.2%}")
    count = f"{len(found):,} of {len(digits):,} labels may be wrong"
    print(f"{count}; {shown if len(chosen) else f'none left at --index {before}'}.")
    if table:
        write_table(table, found, digits.labels[found], probabilities[found], margins)
        print(f"Table: {table}")
    if not len(chosen):
        return None, names
    images, labels = digits.images[chosen], digits.labels[chosen]
    print(summary("training", chosen.tolist(), labels, logits[chosen]), flush=True)
    return draw(scaled(images), labels, logits[chosen]), names


def summary(split: str, indices: list[int], labels: Tensor, logits: Tensor | None) -> str:
    """Format a table of digits and their predictions; for a single digit, with all logits.

    Args:
        split: The name of the set of images.
        indices: The n indices of the images in the split.
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
    rows = ["", "Output: a logit per digit, and its softmax probability:"]
    rows.append("digit     logit  probability")
    probabilities = logits.softmax(dim=0).tolist()
    for digit, logit in enumerate(logits.tolist()):
        row = f"{digit:5}  {logit:8.4f}  {probabilities[digit]:11.2%}"
        rows.append(f"{row}  label" if digit == label else row)
    rows.append(f"Loss: -log(probability of {label}) = {loss:.4f} nats")
    return "\n".join(rows)


def draw(images: Tensor, labels: Tensor, logits: Tensor | None) -> Figure:
    """Draw digits, with their predictions if there is a model.

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
    return cross_entropy(logits, labels, reduction="none").abs()  # no -0.0


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("show", "Show digits, and the predictions of a checkpoint.")
    add = parser.add_argument
    add("--split", choices=("train", "val", "test"), help="Default: train; with --wrong, test.")
    own_help = (
        "Show your own digits in this folder: --split train, or those held out, val. The latter "
        "are the default with --wrong."
    )
    add("--own_dir", "--data.own_dir", metavar="FOLDER", help=own_help)
    index_help = (
        f"Index in the split, counted from 0, or a range of at most {MAX_DIGITS} that excludes B. "
        "Default: 0; with --wrong 0:16, with --label-errors 0:32."
    )
    add("--index", type=_index_range, metavar="N|A:B", help=index_help)
    mode = parser.add_mutually_exclusive_group()
    wrong_help = "Show misclassified images, highest loss first; --index counts these."
    mode.add_argument("--wrong", action="store_true", help=wrong_help)
    label_help = (
        "Show training images whose labels may be wrong, by the checkpoints of a "
        "cross-validation, one for each fold, and the labels they predict, ranked by margin: the "
        "probability of the label minus that of the prediction. --index counts these. "
        "--output FILE.png also writes all of them to FILE.csv."
    )
    mode.add_argument("--label-errors", action="store_true", help=label_help)
    explain_help = (
        "Show beside each image which parts of it support the prediction, and which oppose it, "
        "by occlusion; each image has its own scale."
    )
    add("--explain", action="store_true", help=explain_help)
    ckpt_help = (
        "Checkpoint to predict with: a file, or best or last for the newest run. "
        "With --label-errors, the files of all folds, or the name of their study."
    )
    add("--ckpt_path", nargs="+", metavar="FILE|best|last|NAME", help=ckpt_help)
    output_help = "Write the figure to a .png or .svg file. Default: open a window."
    add("--output", type=_image_path, metavar="FILE", help=output_help)
    data_help = "Directory of the unpacked data. Default: that of the checkpoint, or data."
    # The second name is the one that fit and test use, and error messages mention.
    add("--data_dir", "--data.data_dir", metavar="DIR", help=data_help)
    options = parser.parse_args(args)
    _check(options)
    held_out = "val" if options.own_dir else "test"
    options.split = options.split or (held_out if options.wrong else "train")
    count = 32 if options.label_errors else 16 if options.wrong else 1
    options.index = options.index or range(count)
    return options


def _check(options: Namespace) -> None:
    for name in ("wrong", "explain", "label_errors"):
        if getattr(options, name) and not options.ckpt_path:
            option = f"--{name.replace('_', '-')}"
            which = "STUDY" if name == "label_errors" else "best"
            raise InputError(
                f"{option} needs a checkpoint.", f"For example: {option} --ckpt_path {which}"
            )
    if options.own_dir and (options.split == "test" or options.label_errors):
        raise InputError(
            "--own_dir has training images, and those held out.", "Choose --split train or val."
        )
    if options.label_errors and (options.split or options.explain):
        raise InputError(
            "--label-errors shows training images, without explanations.",
            "Leave out --split and --explain.",
        )
    if not options.label_errors and len(options.ckpt_path or ()) > 1:
        raise InputError(
            "--ckpt_path names several checkpoints.", "Give one; --label-errors takes several."
        )


def _index_range(text: str) -> range:
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", text)
    if not match:
        raise InputError(
            f"--index {text} is not an index.", "Give a number counted from 0, or a range: 0:16."
        )
    start = int(match[1])
    indices = range(start, int(match[2]) if match[2] else start + 1)
    if not 1 <= len(indices) <= MAX_DIGITS:
        raise InputError(
            f"--index {text} selects {len(indices)} images.",
            f"Select 1 to {MAX_DIGITS}: 0:16 selects the first 16.",
        )
    return indices


def _image_path(text: str) -> Path:
    if Path(text).suffix.lower() not in (".png", ".svg"):
        raise InputError(f"--output {text} is not an image file.", "Use the suffix .png or .svg.")
    return Path(text)


def _within(options: Namespace, count: int) -> list[int]:
    if options.index[-1] >= count:
        raise InputError(
            f"There is no {options.split} image {options.index[-1]}.",
            f"--index goes from 0 to {count - 1}.",
        )
    return list(options.index)


def _wrong(options: Namespace, labels: Tensor, logits: Tensor) -> list[int]:
    """Return the indices of the requested errors, and print how many there are."""
    errors: list[int] = worst_errors(labels, logits).tolist()
    before = options.index.start
    chosen = errors[before : options.index.stop]
    if chosen:
        shown = f"showing errors {before + 1} to {before + len(chosen)} by loss"
    else:
        shown = f"none left at --index {before}"
    print(f"{len(errors):,} of {len(labels):,} {options.split} images are misclassified; {shown}.")
    return chosen


def _write(figure: Figure, path: Path) -> None:
    look = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "show"})
    with look, atomic_write(path) as partial:  # SVG text stays text, and files are reproducible
        figure.savefig(partial, format=path.suffix[1:].lower(), metadata={"Date": None})
    print(f"Figure: {path}")


def _may_have_display() -> bool:
    """Whether matplotlib's backend, whether chosen or detected, can open windows."""
    windowless = backend_registry.list_builtin(  # type: ignore[no-untyped-call]
        BackendFilter.NON_INTERACTIVE
    )
    return matplotlib.get_backend().lower() not in windowless


def _open_window(figure: Figure) -> bool:
    """Show a figure until its window is closed; return False if no window can be opened."""
    try:
        from matplotlib import pyplot

        # Without a display matplotlib falls back to a backend without windows.
        pyplot.figure(FigureClass=lambda **_: figure)  # type: ignore[arg-type]  # its window
    except Exception:  # a missing or broken GUI toolkit may raise anything
        return False
    has_window = figure.canvas.required_interactive_framework is not None
    if has_window:
        pyplot.show()
    pyplot.close(figure)
    return has_window
