// The npm oidc-provider on free loopback ports, for Grantway's tests. Nothing of its
// OAuth is changed; this file only configures it. The protocol, shared with ../fosite and
// spoken by ../peer, is drawn in peer.go:
//
//   stdin   one JSON line: certificate and key, client CA, signing key, scopes,
//           resource, clients (RFC 7591 metadata), accounts: what is known of people by
//           their login, absent where there are none; then one line for each account that
//           changes
//   stdout  one JSON line when ready: issuer and endpoints; then one for each account that
//           has changed
//   exit    when stdin closes, so that no server outlives its test
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:https';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { randomBytes } from 'node:crypto';

console.info = console.error; // stdout is for the one line
const { default: Provider, errors } = await import('oidc-provider');

const lines = createInterface({ input: process.stdin });
const [line] = await once(lines, 'line');
lines.on('close', () => process.exit(0));
const config = JSON.parse(line);
lines.on('line', (account) => {
  Object.assign(config.accounts, JSON.parse(account));
  console.log('{}');
});

// Two doors to one provider, as real deployments have them (RFC 8705 section 5): the
// second one asks for a client certificate. Whether it was issued by the client CA is
// the provider's business, since self-signed ones are registered by value.
const tls = { cert: config.cert, key: config.key };
const door = async (options) => {
  const server = createServer({ ...tls, ...options });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return [server, `https://127.0.0.1:${server.address().port}`];
};
const [plain, issuer] = await door({});
const [mutual, mtls] = await door({ requestCert: true, rejectUnauthorized: false, ca: config.client_ca });

const certificate = (ctx) => ctx.socket.getPeerX509Certificate?.();
const opaque = 'urn:grantway:opaque'; // what a token is for when the request names no resource

const provider = new Provider(issuer, {
  clients: config.clients,
  clientDefaults: { id_token_signed_response_alg: 'ES256' }, // the one signing key there is
  extraClientMetadata: { properties: ['dpop_nonce_required', 'access_token_ttl'] },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt',
    'tls_client_auth', 'self_signed_tls_client_auth', ...(config.accounts ? ['none'] : []),
  ],
  scopes: [...config.scopes, 'openid', 'email', 'profile', 'groups'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
  findAccount: (ctx, login) => ({ accountId: login, claims: () => ({ sub: login, ...config.accounts?.[login] }) }),
  jwks: config.jwks,
  discovery: { mtls_endpoint_aliases: { token_endpoint: `${mtls}/token` } },
  ttl: { ClientCredentials: (ctx, token, client) => client.access_token_ttl ?? 600 },
  features: {
    devInteractions: { enabled: config.accounts !== undefined }, // its pages take any password
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: (ctx) => ctx.oidc.client?.dpop_nonce_required === true,
    },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: (ctx) => certificate(ctx)?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
        && certificate(ctx).checkHost(expected, { wildcards: false }) !== undefined,
    },
    resourceIndicators: {
      enabled: true,
      // With people, a token is for the UserInfo endpoint, which takes none that is for a resource.
      defaultResource: (ctx, client, oneOf) => oneOf ?? (config.accounts ? undefined : opaque),
      getResourceServerInfo: (ctx, resource) => {
        if (resource !== opaque && resource !== config.resource) throw new errors.InvalidTarget();
        return {
          scope: config.scopes.join(' '),
          audience: resource,
          accessTokenFormat: resource === opaque ? 'opaque' : 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
});

// A door without TLS, so that a benchmark compares servers and not their ciphers.
const bare = createHttpServer();
bare.listen(0, '127.0.0.1');
await once(bare, 'listening');

for (const server of [plain, mutual, bare]) server.on('request', provider.callback());
console.log(JSON.stringify({
  issuer,
  plain_address: `127.0.0.1:${bare.address().port}`,
  token_endpoint: `${issuer}/token`,
  mtls_token_endpoint: `${mtls}/token`,
  introspection_endpoint: `${issuer}/token/introspection`,
  revocation_endpoint: `${issuer}/token/revocation`,
  jwks_uri: `${issuer}/jwks`,
}));
