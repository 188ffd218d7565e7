"""Checks that the pages of a built site lead somewhere:  python scripts/check_links.py _docs

Every link and picture that is local must exist, with its anchor. Links to the site's own address count as local."""
import sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    "The links, pictures and anchors of a page"
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ('id', 'name') and value: self.anchors.add(value)
            if key in ('href', 'src') and value: self.links.append(value)


def home():
    "The address at which the site is published"
    cfg = ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    return (cfg['DEFAULT']['doc_host'] + cfg['DEFAULT']['doc_baseurl']).rstrip('/')


def broken(site):
    "(page, link, reason) for each local link of `site` that leads nowhere"
    site, base = Path(site).resolve(), home()
    pages = {p: Page(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}
    for page, parsed in pages.items():
        for link in parsed.links:
            local = '/' + link[len(base):].lstrip('/') if link.startswith(base) else link
            parts = urlsplit(local)
            if parts.scheme or parts.netloc: continue
            path = unquote(parts.path)
            target = page if not path else site/path.lstrip('/') if path.startswith('/') else page.parent/path
            target = target.resolve()
            if target.is_dir(): target = target/'index.html'
            if not target.exists(): yield page.relative_to(site), link, 'no such file'
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield page.relative_to(site), link, 'no such place in the page'


if __name__ == '__main__':
    site = Path(sys.argv[1] if len(sys.argv) > 1 else '_docs')
    if not (site/'index.html').exists(): sys.exit(f'{site}/index.html is not there: was the site built?')
    bad = list(broken(site))
    for page, link, why in bad: print(f'{page}: {link}: {why}')
    print(f"{len(list(site.rglob('*.html')))} pages, {len(bad)} broken links")
    sys.exit(bool(bad))
