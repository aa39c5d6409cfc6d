package access_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store/storetest"
)

// Whether there is an account shows neither in the answer nor in the work.
func TestUnknownAccount(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		h.person(t, "ann@example.com", "designer home")
		if _, err := h.Invite(t.Context(), access.Hub(), grantway.Person{Email: "invited@example.com", Roles: caller("designer home").Roles}); err != nil {
			t.Fatal(err)
		}
		gone := h.person(t, "gone@example.com", "designer home")
		if _, err := h.Deactivate(t.Context(), access.Hub(), gone.ID); err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, email := range []string{"ann@example.com", "invited@example.com", "gone@example.com", "nobody@example.com", "", "no\xffbody", strings.Repeat("x", 1000), "%"} {
			before := h.Hashes()
			_, err := h.SignIn(t.Context(), email, "a wrong password", from("192.0.2.1"))
			wantCode(t, err, grantway.Unauthenticated)
			texts = append(texts, err.Error())
			if n := h.Hashes() - before; n != 1 {
				t.Errorf("%q: %d hashes worked out", email, n)
			}
			if texts[0] != err.Error() {
				t.Errorf("%q: %q, but for a known account %q", email, err, texts[0])
			}
		}
	})
}

// An é is one, however it was typed; nothing else about a password is bent.
func TestPasswordIsTakenAsTyped(t *testing.T) {
	h := newHouse(t, storetest.Open(t, storetest.SQLite(t)), newKEK(t), nil)
	invited, err := h.Invite(t.Context(), access.Hub(), grantway.Person{Email: "ann@example.com", Roles: caller("designer home").Roles})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Accept(t.Context(), tokenOf(t, invited.Link), "", " déjà vu 123 "); err != nil {
		t.Fatal(err)
	}
	h.signIn(t, "ann@example.com", " de\u0301ja\u0300 vu 123 ")
	_, err = h.SignIn(t.Context(), "ann@example.com", "déjà vu 123", from("192.0.2.1"))
	wantCode(t, err, grantway.Unauthenticated)
}

// Who guesses waits longer and longer. It is nobody else who does.
func TestThrottle(t *testing.T) {
	h := newHouse(t, storetest.Open(t, storetest.SQLite(t)), newKEK(t), nil)
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		h.person(t, "ann@example.com", "designer home")
		h.person(t, "bob@example.com", "designer home")
		office := from("192.0.2.1")
		browser := office
		browser.Device = h.signIn(t, "ann@example.com", password).Device

		guess := func(email string, o access.Origin) error {
			_, err := h.SignIn(ctx, email, "a wrong password", o)
			return err
		}
		// From the office of Ann, in her name.
		for range 5 {
			wantCode(t, guess("ann@example.com", office), grantway.Unauthenticated)
		}
		var waits []time.Duration
		for range 6 {
			var waited time.Duration
			for err := guess("ann@example.com", office); code(err) == grantway.RateLimited; err = guess("ann@example.com", office) {
				wait := time.Until(err.(*grantway.Error).RetryAt)
				waited += wait
				time.Sleep(wait)
			}
			waits = append(waits, waited)
		}
		if got := fmt.Sprint(waits); got != "[1s 2s 4s 8s 16s 32s]" {
			t.Errorf("waits: %s", got)
		}
		before := h.Hashes()
		_, err := h.SignIn(ctx, "ann@example.com", password, office)
		wantCode(t, err, grantway.RateLimited) // also when it is right, else guessing would go on
		if h.Hashes() != before {
			t.Error("who has to wait costs work")
		}

		// Ann, in the browser she uses, in the same office; elsewhere; and Bob beside her.
		if _, err := h.SignIn(ctx, "ann@example.com", password, browser); err != nil {
			t.Error(err)
		}
		if _, err := h.SignIn(ctx, "ann@example.com", password, from("198.51.100.7")); err != nil {
			t.Error(err)
		}
		if _, err := h.SignIn(ctx, "bob@example.com", password, office); err != nil {
			t.Error(err)
		}

		// A cookie is good for its account only, and does not make guessing free.
		for _, device := range []string{browser.Device + "x", "x." + browser.Device, browser.Device[:len(browser.Device)-1]} {
			forged := office
			forged.Device = device
			_, err := h.SignIn(ctx, "ann@example.com", password, forged)
			wantCode(t, err, grantway.RateLimited)
		}
		elsewhere := from("203.0.113.9")
		elsewhere.Device = browser.Device
		for range 5 {
			wantCode(t, guess("bob@example.com", elsewhere), grantway.Unauthenticated)
			wantCode(t, guess("ann@example.com", elsewhere), grantway.Unauthenticated)
		}
		wantCode(t, guess("bob@example.com", elsewhere), grantway.RateLimited)
		wantCode(t, guess("ann@example.com", elsewhere), grantway.RateLimited)

		// It is forgotten.
		time.Sleep(time.Hour)
		if _, err := h.SignIn(ctx, "ann@example.com", password, office); err != nil {
			t.Error(err)
		}

		// One address, many accounts; a /64 is one address.
		limited := 0
		for n := range 60 {
			if code(guess(fmt.Sprint("guess", n, "@example.com"), from(fmt.Sprintf("2001:db8::%x", n+1)))) == grantway.RateLimited {
				limited++
			}
		}
		if limited != 10 {
			t.Errorf("%d of 60 were limited", limited)
		}
		if _, err := h.SignIn(ctx, "bob@example.com", password, from("2001:db8:0:1::1")); err != nil {
			t.Error(err)
		}
	})
}

// Guesses at once do not get more tries than guesses one after another.
func TestThrottleAtOnce(t *testing.T) {
	h := newHouse(t, storetest.Open(t, storetest.SQLite(t)), newKEK(t), nil)
	h.person(t, "ann@example.com", "designer home")
	var tried atomic.Int64
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			_, err := h.SignIn(t.Context(), "ann@example.com", "a wrong password", from("192.0.2.1"))
			if code(err) == grantway.Unauthenticated {
				tried.Add(1)
			}
		})
	}
	wg.Wait()
	if n := tried.Load(); n < 5 || n > 7 {
		t.Errorf("%d tries", n)
	}
}

// Sign-ins are in the audit trail: those that worked one by one, the others counted.
func TestSignInIsAudited(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		h.person(t, "ann@example.com", "designer home")
		for range 3 {
			h.SignIn(t.Context(), "ann@example.com", "a wrong password", from("192.0.2.1"))
		}
		h.SignIn(t.Context(), "my-password-1", "x", from("2001:db8::1"))
		h.signIn(t, "ann@example.com", password)
		if err := h.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		failed := list(t, h.audit, access.Hub(), access.Filter{Action: "person.sign_in", Outcome: access.Failed})
		if len(failed) != 2 {
			t.Errorf("%d rows", len(failed))
		}
		found := false
		for _, e := range failed {
			found = found || e.Object == "person/ann@example.com" && e.Detail == "wrong passwords in a minute: 3, from 192.0.2.1/32"
			if strings.Contains(e.Object+e.Detail, "my-password") {
				t.Errorf("what was typed is in the trail: %+v", e)
			}
		}
		if !found {
			t.Errorf("%+v", failed)
		}
		done := list(t, h.audit, access.Hub(), access.Filter{Action: "person.sign_in", Outcome: access.Done})
		if len(done) != 1 || done[0].Object != "person/ann@example.com" || done[0].Detail != "password 192.0.2.1" {
			t.Errorf("%+v", done)
		}

		registry := prometheus.NewRegistry()
		registry.MustRegister(h)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]float64{}
		for _, m := range families[0].GetMetric() {
			counts[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
		}
		if families[0].GetName() != "grantway_sign_ins_total" || counts["password done"] != 1 || counts["password failed"] != 4 {
			t.Errorf("%v", counts)
		}
	})
}

func TestLocalPath(t *testing.T) {
	for path, want := range map[string]string{
		"/":                        "/",
		"/credentials?q=a%20b#x":   "/credentials?q=a%20b#x",
		"":                         "/",
		"credentials":              "/",
		"//evil.example.com":       "/",
		"/\\evil.example.com":      "/",
		"/\t/evil.example.com":     "/",
		"\\\\evil.example.com":     "/",
		"https://evil.example.com": "/",
		"javascript:alert(1)":      "/",
		"/%zz":                     "/",
		" //evil.example.com":      "/",
		"/a\nSet-Cookie: x":        "/",
	} {
		if got := access.LocalPath(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}
