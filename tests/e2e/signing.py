"""Requests signed by hand, as the API's documents describe it: no SDK, so that a mistake of ours and one of theirs cannot meet."""

import base64
import hashlib
import hmac
import json
import time
import urllib.parse

from appliance import LIVE, VOD, VOD_ACTIONS, Appliance


def version_of(action):
    return VOD if action in VOD_ACTIONS else LIVE


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def tc3(appliance, action, secret_id, secret_key, now=None, method="POST", service="live", unsigned_payload=False, headers=None, **parameters):
    """A TC3-HMAC-SHA256 request; the raw response."""
    now = int(time.time()) if now is None else now
    date = time.strftime("%Y-%m-%d", time.gmtime(now))
    host = f"127.0.0.1:{appliance.http_port}"
    if method == "POST":
        query, body, content_type = "", json.dumps(parameters).encode(), "application/json"
    else:
        query, body, content_type = urllib.parse.urlencode(parameters), b"", "application/x-www-form-urlencoded"
    hashed = sha256(b"UNSIGNED-PAYLOAD" if unsigned_payload else body)
    canonical = f"{method}\n/\n{query}\ncontent-type:{content_type}\nhost:{host}\n\ncontent-type;host\n{hashed}"
    scope = f"{date}/{service}/tc3_request"
    text = f"TC3-HMAC-SHA256\n{now}\n{scope}\n{sha256(canonical.encode())}"
    key = ("TC3" + secret_key).encode()
    for part in (date, service, "tc3_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    sent = {
        "Authorization": f"TC3-HMAC-SHA256 Credential={secret_id}/{scope}, SignedHeaders=content-type;host, Signature={signature}",
        "Content-Type": content_type,
        "X-TC-Action": action,
        "X-TC-Version": version_of(action),
        "X-TC-Timestamp": str(now),
        **({"X-TC-Content-SHA256": "UNSIGNED-PAYLOAD"} if unsigned_payload else {}),
        **(headers or {}),
    }
    url = f"{appliance.http}/" + (f"?{query}" if query else "")
    return appliance.session.request(method, url, data=body or None, headers=sent, timeout=15)


def older(appliance, action, secret_id, secret_key, now=None, method="GET", algorithm="HmacSHA1", nonce=4711, **flat):
    """A request with the older signature; the raw response."""
    now = int(time.time()) if now is None else now
    fields = {"Action": action, "Version": version_of(action), "Timestamp": now, "Nonce": nonce, "SecretId": secret_id, "SignatureMethod": algorithm, **flat}
    joined = "&".join(f"{name}={value}" for name, value in sorted(fields.items()))
    text = f"{method}127.0.0.1:{appliance.http_port}/?{joined}"
    digest = hashlib.sha256 if algorithm == "HmacSHA256" else hashlib.sha1
    fields["Signature"] = base64.b64encode(hmac.new(secret_key.encode(), text.encode(), digest).digest()).decode()
    encoded = urllib.parse.urlencode(fields)
    if method == "GET":
        return appliance.session.get(f"{appliance.http}/?{encoded}", timeout=15)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return appliance.session.post(f"{appliance.http}/", data=encoded, headers=headers, timeout=15)


def bearer(appliance, action, token, **parameters):
    return appliance.post(action, headers={"Authorization": f"Bearer {token}"}, **parameters)


def code(response):
    """The error code of a response, or "ok"."""
    assert response.status_code == 200 and response.headers["Content-Type"] == "application/json", response.text
    answer = response.json()["Response"]
    assert len(answer["RequestId"]) == 36
    return answer["Error"]["Code"] if "Error" in answer else "ok"


class Signed(Appliance):
    """An appliance with keys: its own calls carry the admin's token."""

    TOKEN = "admin-token-for-the-tests"

    def post(self, action, version=None, headers=None, **parameters):
        return super().post(action, version, {"Authorization": f"Bearer {self.TOKEN}", **(headers or {})}, **parameters)
