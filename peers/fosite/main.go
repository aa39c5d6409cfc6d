// Command fosite is an authorization server on github.com/ory/fosite, the library under
// Ory Hydra, for Grantway's tests. Nothing of its OAuth is changed; this file only
// configures and mounts it. It speaks the protocol of ../oidc-provider, drawn in
// ../peer/peer.go: one JSON line in, one JSON line out, gone when standard input closes.
//
// It is a module of its own because its dependencies are none of Grantway's.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
	"golang.org/x/crypto/bcrypt"
)

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// config is the line on standard input.
type config struct {
	Cert    string             `json:"cert"`
	Key     string             `json:"key"`
	JWKS    jose.JSONWebKeySet `json:"jwks"`
	Clients []registration     `json:"clients"`
}

// registration is the part of RFC 7591 client metadata that fosite has a use for.
type registration struct {
	ID         string              `json:"client_id"`
	Secret     string              `json:"client_secret"`
	GrantTypes []string            `json:"grant_types"`
	Scope      string              `json:"scope"`
	Audience   []string            `json:"audience"`
	AuthMethod string              `json:"token_endpoint_auth_method"`
	AuthAlg    string              `json:"token_endpoint_auth_signing_alg"`
	JWKS       *jose.JSONWebKeySet `json:"jwks"`
	TTL        int                 `json:"access_token_ttl"` // seconds; 0 = ten minutes
}

// client is a registered client with its token lifetime.
type client struct {
	*fosite.DefaultOpenIDConnectClient
	ttl time.Duration
}

// GetEffectiveLifespan implements fosite.ClientWithCustomTokenLifespans.
func (c client) GetEffectiveLifespan(_ fosite.GrantType, _ fosite.TokenType, fallback time.Duration) time.Duration {
	if c.ttl == 0 {
		return fallback
	}
	return c.ttl
}

// strategy issues a JWT when the request names an audience, and an opaque token otherwise.
type strategy struct {
	oauth2.CoreStrategy
	jwt *oauth2.DefaultJWTStrategy
}

func (s strategy) of(token string) oauth2.AccessTokenStrategy {
	if strings.Count(token, ".") == 2 {
		return s.jwt
	}
	return s.CoreStrategy
}

func (s strategy) GenerateAccessToken(ctx context.Context, r fosite.Requester) (string, string, error) {
	if len(r.GetGrantedAudience()) > 0 {
		return s.jwt.GenerateAccessToken(ctx, r)
	}
	return s.CoreStrategy.GenerateAccessToken(ctx, r)
}

func (s strategy) ValidateAccessToken(ctx context.Context, r fosite.Requester, token string) error {
	return s.of(token).ValidateAccessToken(ctx, r, token)
}

func (s strategy) AccessTokenSignature(ctx context.Context, token string) string {
	return s.of(token).AccessTokenSignature(ctx, token)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fosite:", err)
		os.Exit(1)
	}
}

func run() error {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("configuration on standard input: %w", err)
	}
	var c config
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	store, err := newStore(c.Clients)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "https://" + listener.Addr().String()
	server := &http.Server{
		Handler:           newHandler(issuer, store, &c.JWKS.Keys[0]),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}},
		ReadHeaderTimeout: 10 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	closed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		closed <- err
	}()
	err = json.NewEncoder(os.Stdout).Encode(map[string]string{
		"issuer":                 issuer,
		"token_endpoint":         issuer + "/token",
		"introspection_endpoint": issuer + "/introspect",
		"revocation_endpoint":    issuer + "/revoke",
	})
	if err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case err := <-closed:
		return err
	}
}

// newStore is fosite's memory store with the clients in it. A client that may use
// jwt-bearer is also an issuer of assertions about itself, signed by its own keys.
func newStore(clients []registration) (*storage.MemoryStore, error) {
	store := storage.NewMemoryStore()
	for _, r := range clients {
		hash, err := bcrypt.GenerateFromPassword([]byte(r.Secret), bcrypt.MinCost)
		if err != nil {
			return nil, fmt.Errorf("client %s: secret: %w", r.ID, err)
		}
		store.Clients[r.ID] = client{
			DefaultOpenIDConnectClient: &fosite.DefaultOpenIDConnectClient{
				DefaultClient: &fosite.DefaultClient{
					ID: r.ID, Secret: hash, GrantTypes: r.GrantTypes,
					Scopes: strings.Fields(r.Scope), Audience: r.Audience,
				},
				JSONWebKeys:                       r.JWKS,
				TokenEndpointAuthMethod:           r.AuthMethod,
				TokenEndpointAuthSigningAlgorithm: r.AuthAlg,
			},
			ttl: time.Duration(r.TTL) * time.Second,
		}
		for _, grantType := range r.GrantTypes {
			if grantType != jwtBearer || r.JWKS == nil {
				continue
			}
			keys := storage.SubjectPublicKeys{Subject: r.ID, Keys: map[string]storage.PublicKeyScopes{}}
			for _, key := range r.JWKS.Keys {
				keys.Keys[key.KeyID] = storage.PublicKeyScopes{Key: &key, Scopes: strings.Fields(r.Scope)}
			}
			store.IssuerPublicKeys[r.ID] = storage.IssuerPublicKeys{
				Issuer: r.ID, KeysBySub: map[string]storage.SubjectPublicKeys{r.ID: keys},
			}
		}
	}
	return store, nil
}

func newHandler(issuer string, store *storage.MemoryStore, key *jose.JSONWebKey) http.Handler {
	secret := make([]byte, 32)
	rand.Read(secret)
	cfg := &fosite.Config{
		AccessTokenLifespan: 10 * time.Minute,
		AccessTokenIssuer:   issuer,
		TokenURL:            issuer + "/token",
		GlobalSecret:        secret,
		ScopeStrategy:       fosite.ExactScopeStrategy,
	}
	opaque := compose.NewOAuth2HMACStrategy(cfg)
	privateKey := func(context.Context) (any, error) { return key, nil }
	provider := compose.Compose(cfg, store,
		strategy{opaque, compose.NewOAuth2JWTStrategy(privateKey, opaque, cfg)},
		compose.OAuth2ClientCredentialsGrantFactory,
		compose.RFC7523AssertionGrantFactory,
		compose.OAuth2TokenIntrospectionFactory,
		compose.OAuth2TokenRevocationFactory,
	)
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		session := &oauth2.JWTSession{JWTClaims: &jwt.JWTClaims{}}
		request, err := provider.NewAccessRequest(r.Context(), r, session)
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		session.JWTClaims.Subject = request.GetClient().GetID()
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
		for _, audience := range request.GetRequestedAudience() {
			request.GrantAudience(audience)
		}
		response, err := provider.NewAccessResponse(r.Context(), request)
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		provider.WriteAccessResponse(r.Context(), w, request, response)
	})
	mux.HandleFunc("/introspect", func(w http.ResponseWriter, r *http.Request) {
		response, err := provider.NewIntrospectionRequest(r.Context(), r, &oauth2.JWTSession{})
		if err != nil {
			provider.WriteIntrospectionError(r.Context(), w, err)
			return
		}
		provider.WriteIntrospectionResponse(r.Context(), w, response)
	})
	mux.HandleFunc("/revoke", func(w http.ResponseWriter, r *http.Request) {
		provider.WriteRevocationResponse(r.Context(), w, provider.NewRevocationRequest(r.Context(), r))
	})
	return mux
}
