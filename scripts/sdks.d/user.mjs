// The part that an application adds to the OAuth client of the TypeScript SDKs: it keeps what the SDK gives it, and follows the
// SDK to the authorization server. Both generations have the same interface for this.

/** The scopes of the tokens, in the order of their issue. */
export const granted = [];

export class User {
  redirectUrl = 'http://127.0.0.1:9/callback';
  clientMetadata = { client_name: 'sdks', redirect_uris: [this.redirectUrl] };
  #client;
  #tokens;
  #verifier;
  #callback;

  clientInformation() {
    return this.#client;
  }
  saveClientInformation(client) {
    this.#client = client;
  }
  tokens() {
    return this.#tokens;
  }
  saveTokens(tokens) {
    granted.push(tokens.scope);
    this.#tokens = tokens;
  }
  saveCodeVerifier(verifier) {
    this.#verifier = verifier;
  }
  codeVerifier() {
    return this.#verifier;
  }
  async redirectToAuthorization(url) {
    const response = await fetch(url, { redirect: 'manual' });
    await response.body?.cancel();
    this.#callback = new URL(response.headers.get('location')).searchParams;
  }
  /** The parameters with which the authorization server has sent the user back. */
  comeBack() {
    return this.#callback;
  }
}
