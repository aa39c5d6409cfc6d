// OAuth clients of other people against a hub: oauth4webapi, openid-client and simple-oauth2 from
// npm. Nothing of theirs is changed.
//
//   stdin   one JSON line: issuer, and clients by name with id, secret or jwk; the cookie of
//           somebody who is signed in
//   stdout  one JSON line for each check: name, and error if it failed
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import simple from 'simple-oauth2';
import { check, expect, readConfig } from './report.mjs';

const config = await readConfig();
const issuer = new URL(config.issuer);
const http = { [oauth.allowInsecureRequests]: true }; // the hub is on loopback

const importKey = (c, alg) => crypto.subtle.importKey('jwk', c.jwk, alg, false, ['sign']);
const algorithms = {
  ES256: { name: 'ECDSA', namedCurve: 'P-256' },
  PS256: { name: 'RSA-PSS', hash: 'SHA-256' },
  EdDSA: { name: 'Ed25519' },
};

const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' }));

const grant = async (c, auth, options = {}) => {
  const client = { client_id: c.id };
  const send = () => oauth.clientCredentialsGrantRequest(as, client, auth, new URLSearchParams(options.params), { ...http, DPoP: options.DPoP });
  try {
    return await oauth.processClientCredentialsResponse(as, client, await send());
  } catch (e) {
    if (!options.DPoP || !oauth.isDPoPNonceError(e)) throw e;
    return oauth.processClientCredentialsResponse(as, client, await send());
  }
};

const { basic, post, opaque, code, native } = config.clients;
await check('oauth4webapi basic, with an id that it encodes', async () => expect('type', (await grant(basic, oauth.ClientSecretBasic(basic.secret))).token_type, 'bearer'));
await check('oauth4webapi post', async () => expect('type', (await grant(post, oauth.ClientSecretPost(post.secret))).token_type, 'bearer'));
await check('oauth4webapi client_secret_jwt', async () => {
  const c = config.clients.client_secret_jwt;
  await grant(c, oauth.ClientSecretJwt(c.secret));
});
for (const [name, alg] of Object.entries(algorithms)) {
  await check(`oauth4webapi private_key_jwt ${name}`, async () => {
    const c = config.clients[name];
    await grant(c, oauth.PrivateKeyJwt({ key: await importKey(c, alg), kid: c.jwk.kid }));
  });
}
await check('oauth4webapi validateJwtAccessToken', async () => {
  const t = await grant(basic, oauth.ClientSecretBasic(basic.secret));
  const request = new Request('https://api.example', { headers: { authorization: `Bearer ${t.access_token}` } });
  const claims = await oauth.validateJwtAccessToken(as, request, config.issuer, http);
  expect('sub', claims.sub, basic.id);
});
await check('oauth4webapi DPoP with nonce, at the API too', async () => {
  const client = { client_id: basic.id };
  const keys = await oauth.generateKeyPair('ES256');
  const DPoP = oauth.DPoP(client, keys);
  const t = await grant(basic, oauth.ClientSecretBasic(basic.secret), { DPoP });
  expect('type', t.token_type, 'dpop');
  const api = new URL('/v1/status', issuer);
  expect('status', (await oauth.protectedResourceRequest(t.access_token, 'GET', api, undefined, null, { ...http, DPoP })).status, 200);
  const request = new Request(api, { headers: { authorization: `DPoP ${t.access_token}` } });
  expect('as Bearer', (await fetch(api, { headers: { authorization: `Bearer ${t.access_token}` } })).status, 401);
});
await check('oauth4webapi introspection and revocation', async () => {
  const client = { client_id: opaque.id };
  const auth = oauth.ClientSecretBasic(opaque.secret);
  const t = await grant(opaque, auth);
  const ask = async () => oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, auth, t.access_token, http));
  expect('active', (await ask()).active, true);
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, t.access_token, http));
  expect('active', (await ask()).active, false);
});
await check('oauth4webapi wrong secret', async () => {
  try {
    await grant(basic, oauth.ClientSecretBasic('wrong'));
  } catch (e) {
    if (e instanceof oauth.WWWAuthenticateChallengeError || e.error === 'invalid_client') return;
    throw e;
  }
  throw new Error('it got a token');
});

// allow is the person in the browser, who says yes.
const allow = async (url) => {
  const answer = await fetch(new URL('/oauth/authorize', issuer), {
    method: 'POST', redirect: 'manual',
    headers: { cookie: config.cookie, 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ query: url.search.slice(1), answer: 'allow' }),
  });
  expect('consent', answer.status, 303);
  return new URL(answer.headers.get('location'));
};

for (const [name, c, auth] of [['confidential', code, () => oauth.ClientSecretBasic(code.secret)], ['native', native, () => oauth.None()]]) {
  await check(`oauth4webapi code, PKCE and refresh, ${name}`, async () => {
    const client = { client_id: c.id };
    const verifier = oauth.generateRandomCodeVerifier();
    const state = oauth.generateRandomState();
    const url = new URL(as.authorization_endpoint);
    url.search = new URLSearchParams({
      client_id: c.id, redirect_uri: c.redirect, response_type: 'code', scope: 'credential.pick credential.use', state,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    });
    const params = oauth.validateAuthResponse(as, client, await allow(url), state);
    const t = await oauth.processAuthorizationCodeResponse(as, client,
      await oauth.authorizationCodeGrantRequest(as, client, auth(), params, c.redirect, verifier, http));
    const me = await fetch(new URL('/v1/credentials', issuer), { headers: { authorization: `Bearer ${t.access_token}` } });
    expect('API', me.status, 200);
    const next = await oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, auth(), t.refresh_token, http));
    if (!next.refresh_token || next.refresh_token === t.refresh_token) throw new Error('the refresh token does not change');
  });
}

const insecure = { execute: [openid.allowInsecureRequests], algorithm: 'oauth2' };
await check('openid-client basic', async () => {
  const c = await openid.discovery(issuer, basic.id, undefined, openid.ClientSecretBasic(basic.secret), insecure);
  const t = await openid.clientCredentialsGrant(c, { scope: 'credential.use' });
  expect('scope', t.scope, 'credential.use');
  expect('active', (await openid.tokenIntrospection(c, t.access_token)).active, true);
  await openid.tokenRevocation(c, t.access_token);
  expect('active', (await openid.tokenIntrospection(c, t.access_token)).active, false);
});
await check('openid-client private_key_jwt', async () => {
  const one = config.clients.ES256;
  const key = { key: await importKey(one, algorithms.ES256), kid: one.jwk.kid };
  const c = await openid.discovery(issuer, one.id, undefined, openid.PrivateKeyJwt(key), insecure);
  expect('type', (await openid.clientCredentialsGrant(c)).token_type, 'bearer');
});
await check('openid-client DPoP', async () => {
  const c = await openid.discovery(issuer, basic.id, undefined, openid.ClientSecretBasic(basic.secret), insecure);
  const handle = openid.getDPoPHandle(c, await openid.randomDPoPKeyPair('ES256'));
  const t = await openid.clientCredentialsGrant(c, {}, { DPoP: handle });
  expect('type', t.token_type, 'dpop');
  const answer = await openid.fetchProtectedResource(c, t.access_token, new URL('/v1/status', issuer), 'GET', null, undefined, { DPoP: handle });
  expect('status', answer.status, 200);
});
await check('openid-client code and PKCE', async () => {
  const c = await openid.discovery(issuer, code.id, undefined, openid.ClientSecretBasic(code.secret), insecure);
  const verifier = openid.randomPKCECodeVerifier();
  const url = openid.buildAuthorizationUrl(c, {
    redirect_uri: code.redirect, scope: 'credential.use', code_challenge: await openid.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  });
  const t = await openid.authorizationCodeGrant(c, await allow(url), { pkceCodeVerifier: verifier });
  await openid.refreshTokenGrant(c, t.refresh_token);
});

for (const [name, c, authorizationMethod] of [['header', basic, 'header'], ['body', post, 'body']]) {
  await check(`simple-oauth2 ${name}`, async () => {
    const flow = new simple.ClientCredentials({
      client: { id: c.id, secret: c.secret }, auth: { tokenHost: config.issuer, tokenPath: '/oauth/token' }, options: { authorizationMethod },
    });
    const t = await flow.getToken({ scope: 'credential.use' });
    expect('expired', t.expired(), false);
  });
}
process.exit(0);
