"""The site of the documentation: it builds without a warning, all its links lead somewhere, and it asks nothing of any other site."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from forked_scripts import ROOT

import vaelab


class Links(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link":
            self.loaded.append(found["href"])
        elif "src" in found:
            self.loaded.append(found["src"])


@cache
def page(path: Path) -> Links:
    return Links(path.read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    told = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    return folder


def test_every_link_leads_to_what_is_there(site: Path) -> None:
    pages, dead = sorted(site.rglob("*.html")), []
    assert len(pages) > 20
    for path in pages:
        if path.name == "404.html":  # whose links are those of the root of a server
            continue
        assert not re.search(r"\]\([^)\s]+\.md", re.sub(r"(?s)<code>.*?</code>", "", path.read_text())), (
            f"{path}: a link was not understood"
        )
        for link in page(path).links + page(path).loaded:
            target, _, anchor = unquote(link).partition("#")
            if "://" in link and link not in page(path).loaded:
                continue
            linked = (path.parent / target).resolve() if target else path
            if not linked.is_file() or (anchor and linked.suffix == ".html" and anchor not in page(linked).anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert not dead, "\n" + "\n".join(dead)


def test_links_to_code_show_the_line(site: Path) -> None:
    (line,) = re.findall(r"\]\(\.\./(src/vaelab/likelihoods/bernoulli\.py)#L(\d+)\)", (ROOT / "docs" / "from_elbo_to_code.md").read_text())[
        :1
    ]
    shown = f"source/{line[0]}.html#__span-0-{line[1]}"
    assert shown in page(site / "from_elbo_to_code.html").links


def test_the_reference_has_all_public_names(site: Path) -> None:
    anchors = page(site / "reference.html").anchors
    assert not [name for name in vaelab.__all__ if f"{vaelab.HOMES[name]}.{name}" not in anchors and f"vaelab.{name}" not in anchors]


class Served(SimpleHTTPRequestHandler):
    """The site, whose pages a browser may load nothing for but from the site; what it forbids, it says on its console."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def opened(address: str, profile: Path) -> str:
    """A page when its scripts have run, which have nothing to complain of."""
    line = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    words = [*line, f"--user-data-dir={profile}", "--dump-dom", address]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in told.stderr, told.stderr
    return told.stdout


BROWSER = pytest.mark.skipif(not shutil.which("chromium") and "CI" not in os.environ, reason="needs chromium, which CI has")


@BROWSER
@pytest.mark.parametrize("name", ["index", "from_elbo_to_code", "reference"])
def test_a_browser_has_no_complaint(address: str, name: str, tmp_path: Path) -> None:
    text = opened(f"{address}/{name}.html", tmp_path)
    equations = text.count('class="arithmatex"')
    assert equations > 100 or name != "from_elbo_to_code"
    assert text.count('class="katex"') == equations
    assert "katex-error" not in text


@BROWSER
def test_the_search_works_without_a_server(site: Path, tmp_path: Path) -> None:
    assert "md-search-result__item" in opened(f"{(site / 'index.html').as_uri()}?q=vampprior", tmp_path)
