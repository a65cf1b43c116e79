// The identity provider of the tests: oidc-provider on loopback, with tokens in memory. It announces itself with one line of
// JSON on standard output, and ends when its standard input does.
//
// A token for the resource `URL` is a JWT with that audience; one for `URL?opaque` has the same audience and is opaque.
// POSTs to the control address: /rotate makes a new key that signs from then on, with the old ones still published;
// /retire publishes only the newest; /requests tells how many requests each path has had.
import { createServer } from "node:http";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { once } from "node:events";

// Standard output is for the announcement.
console.info = console.warn = console.log = console.error;
const { Provider } = await import("oidc-provider");

const SCOPES = ["fininfo:read", "fininfo:trade"];
const SECRET = "a secret of the tests, with 32 bytes";

const stored = new Map();
class Memory {
  constructor(model) {
    this.key = (id) => `${model}:${id}`;
  }
  async upsert(id, payload) {
    stored.set(this.key(id), payload);
  }
  async find(id) {
    return stored.get(this.key(id));
  }
  async destroy(id) {
    stored.delete(this.key(id));
  }
}

const makeKey = () => generateKeyPairSync("ec", { namedCurve: "P-256" });
const publicJwk = (pair) => pair.publicKey.export({ format: "jwk" });
const signingKey = () => ({
  ...makeKey().privateKey.export({ format: "jwk" }),
  kid: randomUUID(),
  alg: "ES256",
  use: "sig",
});

async function listen(handler) {
  const server = createServer(handler);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}`;
}

const requests = {};
let answer;
const issuer = await listen((request, response) => {
  const path = request.url.split("?")[0];
  requests[path] = (requests[path] ?? 0) + 1;
  answer(request, response);
});

// For private_key_jwt (RFC 7523).
const edgeKey = makeKey();
const client = (client_id, more) => ({ client_id, redirect_uris: [], response_types: [], grant_types: [], ...more });
const secret = { client_secret: SECRET, token_endpoint_auth_method: "client_secret_basic" };

function provider(keys) {
  return new Provider(issuer, {
    adapter: Memory,
    jwks: { keys },
    clients: [
      client("agent", { ...secret, grant_types: ["client_credentials"], scope: SCOPES.join(" ") }),
      client("edge", { ...secret, grant_types: ["client_credentials"], scope: SCOPES.join(" ") }),
      client("edge-key", {
        grant_types: ["client_credentials"],
        scope: SCOPES.join(" "),
        token_endpoint_auth_method: "private_key_jwt",
        token_endpoint_auth_signing_alg: "ES256",
        jwks: { keys: [{ ...publicJwk(edgeKey), kid: "edge", alg: "ES256", use: "sig" }] },
      }),
    ],
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    clientAuthMethods: ["client_secret_basic", "private_key_jwt"],
    scopes: SCOPES,
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => `${issuer}/no-resource`,
        getResourceServerInfo: (_, resource) => ({
          scope: SCOPES.join(" "),
          audience: resource.replace(/\?opaque$/, ""),
          accessTokenTTL: 600,
          accessTokenFormat: resource.endsWith("?opaque") ? "opaque" : "jwt",
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
  }).callback();
}

let keys = [];
function publish(next) {
  keys = next;
  answer = provider(keys);
}
publish([signingKey()]);

const controls = {
  "/rotate": () => publish([signingKey(), ...keys]),
  "/retire": () => publish(keys.slice(0, 1)),
  "/requests": () => {},
};
const control = await listen((request, response) => {
  const act = request.method === "POST" && controls[request.url];
  act?.();
  response.writeHead(act ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(requests));
});

const edge_key = edgeKey.privateKey.export({ format: "pem", type: "pkcs8" });
process.stdout.write(JSON.stringify({ issuer, control, secret: SECRET, edge_key }) + "\n");
process.stdin.resume().on("close", () => process.exit()).on("end", () => process.exit());
