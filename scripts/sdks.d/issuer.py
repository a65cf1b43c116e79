"""A small authorization server: it lets every client register, and gives it every scope that it asks for (OAuth 2.1, PKCE).

Its tokens are JWTs (HS256) for one user and for the `resource` of the request (RFC 8707).
"""

import base64
import hashlib
import hmac
import http.server
import json
import secrets
import threading
import time
import urllib.parse


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    def __init__(self):
        self.secret = secrets.token_hex(32)
        self.codes = {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.issuer = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def metadata(self):
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "authorization_response_iss_parameter_supported": True,
        }

    def register(self, wanted):
        # The clients of this suite are public.
        return wanted | {"client_id": secrets.token_hex(8), "token_endpoint_auth_method": "none"}

    def authorize(self, query):
        """The URL to which the user is sent back."""
        code = secrets.token_hex(16)
        self.codes[code] = query
        back = {"code": code, "iss": self.url} | ({"state": query["state"]} if "state" in query else {})
        return f"{query['redirect_uri']}?{urllib.parse.urlencode(back)}"

    def token(self, form):
        asked = self.codes.pop(form["code"])
        challenge = base64url(hashlib.sha256(form["code_verifier"].encode()).digest())
        if challenge != asked["code_challenge"] or form.get("resource") != asked.get("resource"):
            raise ValueError("the code is not for this request")
        now = int(time.time())
        scope = asked.get("scope", "")
        claims = {"iss": self.url, "sub": "ada", "aud": asked.get("resource", ""), "scope": scope}
        token = self.sign(claims | {"iat": now, "exp": now + 3600})
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": scope}

    def sign(self, claims):
        parts = ({"alg": "HS256", "typ": "at+jwt"}, claims)
        text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{text}.{base64url(hmac.digest(self.secret.encode(), text.encode(), 'sha256'))}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/.well-known/oauth-authorization-server":
            self.answer(200, self.server.issuer.metadata())
        elif url.path == "/authorize":
            self.answer(302, {}, self.server.issuer.authorize(dict(urllib.parse.parse_qsl(url.query))))
        else:
            self.answer(404, {"error": "not_found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        try:
            if self.path == "/register":
                self.answer(201, self.server.issuer.register(json.loads(body)))
            elif self.path == "/token":
                self.answer(200, self.server.issuer.token(dict(urllib.parse.parse_qsl(body))))
            else:
                self.answer(404, {"error": "not_found"})
        except (KeyError, ValueError) as error:
            self.answer(400, {"error": "invalid_request", "error_description": str(error)})

    def answer(self, status, value, location=None):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass
