"""report.html: a run on one page that can be sent to a colleague, with everything in it and nothing fetched."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaelab.figures.charts.training import bound_chart
from vaelab.runs.files import write_text
from vaelab.runs.folder import RESULTS, RunFolder

# In the order in which they are read: what a picture shows, in a sentence.
CAPTIONS = {
    "reconstructions": "Test data x, and below them what the model makes of them: E[x | z] at the centre z of q(z | x).",
    "samples": "New examples: E[x | z] of z drawn from the prior p(z).",
    "traversals": "One example, and what each dimension of z changes in it; those that carry most of the rate come first.",
    "moving_traversals": "The same, moving.",
    "interpolations": "From one example to another, along a straight line between the centres of their q(z | x).",
    "spherical_interpolations": "The same, along a great circle.",
    "manifold": "The whole latent space of two dimensions, at the quantiles of N(0, I).",
    "marginals": "Columns of test data and of samples, with the distance between them; the worst fitted first.",
    "marginal_distances": "How far each column of samples is from test data; marks: training data, than which less cannot be hoped for.",
    "code_length": "Bits of a lossless code of the test data, made of the model, beside -ELBO and general compressors.",
    "latent_space": "The centres of q(z | x) of test data, coloured by their labels.",
    "nearest_training_images": "Samples above the training data that are nearest to them: a copy means that the model repeats its data.",
}
TERMS = {
    "nat": "the unit of information with the natural logarithm; 1 nat is 1.44 bits.",
    "elbo": "the evidence lower bound, E_q[log p(x | z)] - KL(q(z | x) || p(z)): a lower bound of log p(x). Higher is better.",
    "rate": "KL(q(z | x) || p(z)): how much z tells about x.",
    "distortion": "-E_q[log p(x | z)]: how much z leaves open about x. The elbo is -rate - distortion.",
    "log likelihood": "log p(x), estimated by importance sampling; closer to the truth than the elbo.",
    "bits per dim": "minus the log likelihood in bits, for each number in x. Lower is better.",
    "active units": "dimensions of z whose centre of q(z | x) changes with x.",
}
HEADLINE = ("elbo", "rate", "distortion", "log_likelihood", "bits_per_dim", "active_units")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>{title}</title><style>
:root {{ color-scheme: light }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1040px; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h1 {{ margin: 0 0 .2rem; font-size: 1.7rem }} h2 {{ margin: 2.2rem 0 .6rem; font-size: 1.2rem; border-bottom: 1px solid #ddd }}
.numbers {{ display: flex; flex-wrap: wrap; gap: .8rem }} .numbers div {{ background: #f4f6f8; border-radius: 6px; padding: .5rem .9rem }}
.numbers b {{ display: block; font-size: 1.35rem; font-weight: 600 }} .muted {{ color: #667; font-size: .9rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }} td, th {{ padding: .15rem 1.2rem .15rem 0; text-align: left }}
figure {{ margin: 0 0 1.2rem }} figure img, figure svg {{ max-width: 100%; height: auto }} figcaption {{ color: #667; font-size: .9rem }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 1rem; align-items: start }}
pre {{ background: #f4f6f8; padding: .8rem; overflow-x: auto; font-size: .85rem; border-radius: 6px }}
</style></head><body>
{body}
</body></html>
"""


def write_report(run: RunFolder, config: str, file: str = RESULTS) -> Path:
    """Writes report.html beside the results: numbers, curves, pictures, the config and where it all came from.

    Args:
        run: the run.
        config: as yaml.
        file: name of its results, of which there may be those of another checkpoint.

    Raises:
        DamagedFile: if the results or what was logged cannot be read.
    """
    known, folder = run.results(file), run.path.resolve()
    title = folder.name if folder.parent.name == "" else f"{folder.parent.name} / {folder.name}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="muted">checkpoint {html.escape(str(known.get("checkpoint")))}, {written(known, "epochs")} epochs,'
        f" {written(known, 'steps')} steps, seed {written(known, 'seed')}, test data, nats per example</p>",
        headline(known.get("test") or {}),
        section("Training", curves(run.curves())),
        section("Pictures", figures_of(in_order(path for path in run.figures.glob("*.[pg][ni][gf]") if path.is_file()))),
        section("All numbers", tables(known)),
        section("Terms", terms()),
        section("How to repeat it", f"<pre>{html.escape(run.command_line)}</pre>"),
        section("Config", f"<details><summary>as it was composed</summary><pre>{html.escape(config)}</pre></details>"),
        section("Where the numbers came from", origins(known)),
    ]
    path = (run.path / file.replace("results", "report")).with_suffix(".html")
    write_text(PAGE.format(title=html.escape(title), body="\n".join(part for part in parts if part)), path)
    return path


def written(known: Mapping[str, Any], key: str) -> str:
    """Value of the results, as text of the page."""
    return html.escape(str(known.get(key, "?")))


def section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>\n{body}" if body else ""


def rounded(value: Any) -> str:
    """A number with four digits, or one after the point if it is large; a long list or a mapping is said by its length."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return f"{len(value)} values, in the results"
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return html.escape(", ".join(value) or "none")
        flat = all(isinstance(item, int | float) for item in value)
        return ", ".join(rounded(item) for item in value) if flat and len(value) <= 4 else f"{len(value)} values, in the results"
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.1f}"
        if isinstance(value, float)
        else html.escape(str(value))
    )


def headline(test: dict[str, Any]) -> str:
    """The numbers that a reader looks for first."""
    cells = []
    for name in HEADLINE:
        if test.get(name) is not None:
            error, of = test.get(f"{name}_std_error"), f" of {written(test, 'latent_dim')}" if name == "active_units" else ""
            spread = f" ± {error:.2g}" if error else ""
            cells.append(f"<div>{name.replace('_', ' ')}<b>{rounded(test[name])}{of}</b><span class='muted'>{spread}&nbsp;</span></div>")
    return f'<div class="numbers">{"".join(cells)}</div>' if cells else ""


def tables(known: dict[str, Any]) -> str:
    """Every number, by the metric that found it; rows, such as those of columns, are a table of their own."""
    test, evaluations = known.get("test") or {}, known.get("evaluations") or {}
    groups = {name: how.get("keys") or [] for name, how in evaluations.items()}
    groups = {"at the end of training": [key for key in test if not any(key in keys for keys in groups.values())]} | groups
    parts = []
    for name, keys in groups.items():
        rows = "".join(
            f"<tr><td>{html.escape(key)}</td><td>{rounded(test[key])}</td><td class='muted'>{spread(test, key)}</td></tr>"
            for key in keys
            if key in test and not key.endswith(("_std_error", "_ci")) and not are_rows(test[key])
        )
        below = "".join(table_of(test[key]) for key in keys if are_rows(test.get(key)))
        how = evaluations.get(name)
        note = f"seed {how.get('seed')}, {how.get('seconds')} s, {how.get('finished')}" if how else ""
        if rows:
            parts.append(f"<h3>{html.escape(name)} <span class='muted'>{html.escape(note)}</span></h3><table>{rows}</table>{below}")
    return "".join(parts)


def are_rows(value: Any) -> bool:
    """True of a list of mappings."""
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def table_of(rows: list[dict[str, Any]]) -> str:
    """A table of rows with the same keys."""
    head = "".join(f"<th>{html.escape(key.replace('_', ' '))}</th>" for key in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{rounded(value)}</td>' for value in row.values())}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def spread(test: dict[str, Any], key: str) -> str:
    error, interval = test.get(f"{key}_std_error"), test.get(f"{key}_ci")
    return f"± {rounded(error)}" if error else f"95 % interval {rounded(interval[0])} to {rounded(interval[1])}" if interval else ""


def origins(known: dict[str, Any]) -> str:
    rows = {
        key: known[key]
        for key in ("git_commit", "git_dirty", "device", "threads", "train_time_s", "finished", "num_parameters")
        if key in known
    }
    rows |= known.get("versions", {})
    return f"<table>{''.join(f'<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v))}</td></tr>' for k, v in rows.items())}</table>"


def curves(logged: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """The chart of what was logged, as a drawing in the page."""
    if not logged.keys() & {"train/elbo", "val/elbo"}:
        return ""
    buffer = io.StringIO()
    bound_chart(logged).savefig(buffer, format="svg")
    svg = buffer.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def terms() -> str:
    """Every term that the page uses, explained once."""
    return f"<table>{''.join(f'<tr><td>{term}</td><td>{html.escape(meaning)}</td></tr>' for term, meaning in TERMS.items())}</table>"


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Pictures in the order in which they are read, others after them."""
    names = list(CAPTIONS)
    return sorted(paths, key=lambda path: (names.index(path.stem) if path.stem in names else len(names), path.name))


def figures_of(paths: Sequence[Path], side_by_side: bool = True) -> str:
    """Pictures inside the page, as many to a line as there is room for, or as wide as it."""
    shown = []
    for path in paths:
        data = base64.b64encode(path.read_bytes()).decode()
        name = html.escape(path.stem.replace("_", " "))
        caption = html.escape(CAPTIONS.get(path.stem, path.stem.replace("_", " ")))
        image = f'<img src="data:image/{path.suffix[1:]};base64,{data}" alt="{name}">'
        shown.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="pictures">{"".join(shown)}</div>' if shown and side_by_side else "".join(shown)
