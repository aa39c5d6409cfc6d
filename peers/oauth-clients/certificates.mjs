// OAuth clients of other people that have certificates, against a hub that serves TLS (RFC 8705).
//
// validateJwtAccessToken of oauth4webapi is not here: it takes no tokens that are bound to certificates.
//
//   stdin   one JSON line: issuer, ca, and clients by name with id, cert and key
//   stdout  as in check.mjs
import { X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import { check, expect, readConfig } from './report.mjs';

const config = await readConfig();
const issuer = new URL(config.issuer);

// fetchAs is a fetch whose connections present the certificate of c, where there is one; the one in Node cannot.
const fetchAs = (c) => (url, { method, headers, body } = {}) => new Promise((resolve, reject) => {
  const sent = request(url, { method, headers: Object.fromEntries(new Headers(headers)), ca: config.ca, cert: c?.cert, key: c?.key, agent: false }, async (got) => {
    try {
      resolve(new Response(await text(got), { status: got.statusCode, headers: got.headers }));
    } catch (e) {
      reject(e);
    }
  });
  sent.on('error', reject);
  sent.end(body?.toString());
});
const as = await oauth.processDiscoveryResponse(issuer,
  await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', [oauth.customFetch]: fetchAs() }));
const api = new URL('/v1/status', issuer);
const callAs = async (c, token) => (await fetchAs(c)(api, { headers: { authorization: `Bearer ${token}` } })).status;
const thumbprint = (c) => Buffer.from(new X509Certificate(c.cert).fingerprint256.replaceAll(':', ''), 'hex').toString('base64url');

const { authority, itself } = config.clients;
const grant = async (c, connection) => {
  const client = { client_id: c.id };
  return oauth.processClientCredentialsResponse(as, client,
    await oauth.clientCredentialsGrantRequest(as, client, oauth.TlsClientAuth(), {}, { [oauth.customFetch]: fetchAs(connection) }));
};

for (const [name, c, other] of [['tls_client_auth', authority, itself], ['self_signed_tls_client_auth', itself, authority]]) {
  await check(`oauth4webapi ${name}, bound to the certificate`, async () => {
    const t = await grant(c, c);
    expect('the API, with the certificate', await callAs(c, t.access_token), 200);
    expect('the API, with another', await callAs(other, t.access_token), 401);
    expect('the API, with none', await callAs(undefined, t.access_token), 401);
    const client = { client_id: c.id };
    const asked = await oauth.processIntrospectionResponse(as, client,
      await oauth.introspectionRequest(as, client, oauth.TlsClientAuth(), t.access_token, { [oauth.customFetch]: fetchAs(c) }));
    expect('cnf', asked.cnf['x5t#S256'], thumbprint(c));
    for (const wrong of [other, undefined]) {
      const refused = await grant(c, wrong).then(() => undefined, (e) => e);
      expect('a token without the certificate', refused?.status, 401);
    }
  });
  await check(`openid-client ${name}`, async () => {
    const found = await openid.discovery(issuer, c.id, { tls_client_certificate_bound_access_tokens: true }, openid.TlsClientAuth(),
      { algorithm: 'oauth2', [openid.customFetch]: fetchAs(c) });
    const t = await openid.clientCredentialsGrant(found);
    expect('the API', (await openid.fetchProtectedResource(found, t.access_token, api, 'GET')).status, 200);
    expect('active', (await openid.tokenIntrospection(found, t.access_token)).active, true);
    await openid.tokenRevocation(found, t.access_token);
    expect('the API, revoked', await callAs(c, t.access_token), 401);
  });
}
process.exit(0);
