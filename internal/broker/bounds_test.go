package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// TestVariantsAreBounded: a caller that makes up audiences costs a bounded number of token
// requests, and the credential's own token goes on.
func TestVariantsAreBounded(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "app", nil))
		var limited *grantway.Error
		for i := range 110 {
			_, err := hub.Token(t.Context(), grantway.Ref{Credential: "app", Audience: fmt.Sprint("audience-", i)})
			if err != nil && !(errors.As(err, &limited) && limited.Code == grantway.RateLimited && !limited.RetryAt.IsZero()) {
				t.Fatal(err)
			}
		}
		if limited == nil {
			t.Error("110 audiences were admitted")
		}
		wantRequests(t, p, 100)
		token(t, hub, grantway.Ref{Credential: "app"})
		token(t, hub, grantway.Ref{Credential: "app", Audience: "audience-1"})
	})
}

// TestRenewNowIsBounded: "renew now" is limited, by credential.
func TestRenewNowIsBounded(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "app", nil))
		var limited *grantway.Error
		for range 30 {
			if err := renewNow(t, hub.Client, "app"); err != nil && !(errors.As(err, &limited) && limited.Code == grantway.RateLimited) {
				t.Fatal(err)
			}
			token(t, hub, grantway.Ref{Credential: "app"})
		}
		if limited == nil || p.Token.Count() > 25 {
			t.Errorf("30 times renew now cost %d requests and ended in %v", p.Token.Count(), limited)
		}
	})
}
