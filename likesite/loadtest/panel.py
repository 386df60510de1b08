"""The certificates in Locust's web UI: a panel on its page, a page of their own, and JSON."""

from flask import Flask, Response, jsonify, request
from locust.web import WebUI

from likesite.loadtest.gathering import Gathering

SCRIPT = """
const panel = document.createElement("details");
panel.id = "certificate";
panel.open = true;
panel.style.cssText = "position:fixed;right:12px;bottom:12px;z-index:2000;padding:8px 12px;max-width:94vw;"
  + "overflow:auto;background:#15202b;color:#e7edf3;border-left:6px solid;border-radius:4px;font:12px/1.4 monospace";
const line = document.createElement("summary"), text = document.createElement("pre");
line.style.cursor = "pointer";
text.style.margin = "6px 0 0";
panel.append(line, text);
const colours = {0: "#2e9e5b", 1: "#d64545", 2: "#d9a400"};
async function show() {
  try {
    const run = (await (await fetch("./certificates.json")).json()).pop();
    panel.hidden = !run;
    line.textContent = run ? `Run ${run.run}: ${run.certificate ? run.certificate.verdict : run.progress}` : "";
    text.textContent = run?.text ?? "";
    panel.style.borderColor = colours[run?.certificate?.exit_code] ?? "#888";
  } catch { line.textContent = "Certificates: Locust does not answer"; }
  setTimeout(show, 1000);
}
document.body.append(panel);
show();
"""


def add(web_ui: WebUI, app: Flask, base_path: str, gatherings: list[Gathering]) -> None:
    """Add the routes below Locust's own base path, and the panel to its page."""

    def as_json() -> Response:
        return jsonify([_row(gathering) for gathering in gatherings])

    def as_text() -> Response:
        rows = [_row(gathering) for gathering in reversed(gatherings)]
        text = "\n\n".join(str(row["text"] or f"Run {row['run']}: {row['progress']}") for row in rows)
        return Response(text or "No run yet.", mimetype="text/plain")

    def script() -> Response:
        return Response(SCRIPT, mimetype="text/javascript")

    for path, view in {"certificates.json": as_json, "certificates": as_text, "certificates.js": script}.items():
        app.add_url_rule(f"{base_path}/{path}", path, web_ui.auth_required_if_enabled(view))
    app.after_request(_with_panel)
    web_ui.template_args["extended_csv_files"] = [{"href": "./certificates", "title": "Certificates of all runs"}]


def _with_panel(response: Response) -> Response:
    """Locust's page is one bundled application: the panel stands beside it, and survives its redraws."""
    if request.endpoint == "locust.index":
        script = b'<script type="module" src="./certificates.js"></script></body>'
        response.set_data(response.get_data().replace(b"</body>", script))
    return response


def _row(gathering: Gathering) -> dict[str, object]:
    certificate = gathering.certificate
    return {
        "run": gathering.name,
        "progress": gathering.progress,
        "certificate": certificate and certificate.as_dict(),
        "text": certificate and certificate.text(),
    }
