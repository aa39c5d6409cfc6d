package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// TestAppendToken compares the JSON that is written by hand with that of encoding/json, for
// any token whatsoever.
func TestAppendToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Strings of any characters, and of any bytes: a provider may send everything.
		anything := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		now := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		token := &grant.Token{
			AccessToken: grant.Secret(anything.Draw(t, "access token")),
			Type:        rapid.SampledFrom([]string{"Bearer", "DPoP"}).Draw(t, "type"),
			Scope:       anything.Draw(t, "scope"),
			ExpiresAt:   now.Add(time.Duration(rapid.Int64Range(0, int64(grant.MaxLifetime)).Draw(t, "left"))).In(time.FixedZone("there", 3600)),
		}
		proof := anything.Draw(t, "proof")

		want, err := json.Marshal(grantway.Token{
			AccessToken: string(token.AccessToken), TokenType: token.Type, Scope: token.Scope, Fingerprint: token.Fingerprint(), Proof: proof,
			ExpiresIn: grantway.Seconds(token.ExpiresAt.Sub(now) / time.Second), ExpiresAt: token.ExpiresAt.UTC(),
			Header: grantway.Header{Name: "Authorization", Value: token.Authorization()},
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(members(t, want), members(t, appendToken(nil, token, proof, now))); diff != "" {
			t.Errorf("(-encoding/json +appendToken):\n%s", diff)
		}
	})
}

// members decodes an object. The two writers may escape a character differently.
func members(t *rapid.T, text []byte) (m map[string]any) {
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return m
}
