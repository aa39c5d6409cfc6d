package bench

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/store"
)

const tokenPath = "/v1/credentials/sales-email/token"

// newHub makes a data directory with one credential of provider and returns a running hub on it.
func newHub(b *testing.B, data string, provider *grantwaytest.Provider) (*process, string) {
	b.Helper()
	hub := start(b, "GRANTWAY_BENCH=hub", "GRANTWAY_BENCH_DATA="+data)
	client, err := grantway.NewClient(owner(b, data))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close(b.Context())
	_, err = client.CreateCredential(b.Context(), grantway.Credential{Name: "sales-email", Inputs: grantway.Inputs{
		"client_id": grantway.Text("app"), "client_secret": grantway.Text("secret"),
		"token_endpoint": grantway.Text(provider.Token.URL), "scopes": grantway.Text("a b"),
	}})
	if err != nil {
		b.Fatal(err)
	}
	return hub, signIn(b, owner(b, data))
}

func newProvider(b *testing.B) *grantwaytest.Provider {
	p := grantwaytest.NewProvider(b)
	p.Register(grantwaytest.Client{ID: "app", Secret: "secret"})
	return p
}

// BenchmarkTokenRead compares reading a token that is in memory (authenticated, authorized
// and counted) with a bare handler that writes as many bytes. Target: x-bare ≥ 0.8.
func BenchmarkTokenRead(b *testing.B) {
	data := b.TempDir()
	hub, token := newHub(b, data, newProvider(b))
	defer hub.stop(b)
	request := post(hub.addr, tokenPath, token)
	var answer []byte
	load(b, hub.addr, request, 1, func(status int, body []byte) error {
		answer = append(answer, body...)
		return has(`"access_token":"`)(status, body)
	})
	bare := start(b, "GRANTWAY_BENCH=bare", "GRANTWAY_BENCH_BODY="+string(answer))
	defer bare.stop(b)
	toBare := post(bare.addr, tokenPath, token)

	// In turns, so that whatever else the machine does hits both.
	const rounds = 10
	n := max(b.N/rounds, 1)
	var hubTook, bareTook time.Duration
	b.ResetTimer()
	for range rounds {
		bareTook += load(b, bare.addr, toBare, n, has(`"access_token":"`))
		hubTook += load(b, hub.addr, request, n, has(`"access_token":"`))
	}
	b.StopTimer()
	b.ReportMetric(float64(n*rounds)/bareTook.Seconds(), "bare-req/s")
	b.ReportMetric(float64(n*rounds)/hubTook.Seconds(), "hub-req/s")
	b.ReportMetric(bareTook.Seconds()/hubTook.Seconds(), "x-bare")
}

// BenchmarkColdStart measures from starting a process on an existing database until it has
// given the first token: one it has stored, so no provider is asked.
func BenchmarkColdStart(b *testing.B) {
	data := b.TempDir()
	provider := newProvider(b)
	hub, token := newHub(b, data, provider)
	load(b, hub.addr, post(hub.addr, tokenPath, token), 1, has(`"access_token":"`))
	hub.stop(b)
	for b.Loop() {
		again := start(b, "GRANTWAY_BENCH=hub", "GRANTWAY_BENCH_DATA="+data)
		load(b, again.addr, post(again.addr, tokenPath, token), 1, has(`"access_token":"`))
		b.StopTimer()
		again.stop(b)
		b.StartTimer()
	}
	if n := len(provider.Token.Requests()); n != 1 {
		b.Fatalf("the provider was asked %d times, want once", n)
	}
}

// BenchmarkManyCredentials starts hubs with 100 and with 100,000 credentials and compares
// them. Targets: start-s ≤ 2, MiB ≤ 300, x-slower (hot read, against 100) ≤ 1.2.
func BenchmarkManyCredentials(b *testing.B) {
	provider := newProvider(b)
	var hubs [2]*process
	var requests [2][]byte
	var took [2]time.Duration
	var starts time.Duration
	for i, credentials := range []int{100, 100_000} {
		data := b.TempDir()
		hub, token := newHub(b, data, provider)
		hub.stop(b)
		fill(b, data, credentials)
		began := time.Now()
		hubs[i] = start(b, "GRANTWAY_BENCH=hub", "GRANTWAY_BENCH_DATA="+data)
		starts = time.Since(began)
		defer hubs[i].stop(b)
		requests[i] = post(hubs[i].addr, tokenPath, token)
		load(b, hubs[i].addr, requests[i], 1, has(`"access_token":"`))
	}
	const rounds = 10
	n := max(b.N/rounds, 1)
	b.ResetTimer()
	for range rounds {
		for i, hub := range hubs {
			took[i] += load(b, hub.addr, requests[i], n, has(`"access_token":"`))
		}
	}
	b.StopTimer()
	b.ReportMetric(starts.Seconds(), "start-s")
	b.ReportMetric(hubs[1].resident(b), "MiB")
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "x-slower")
}

// fill brings the database in data to n credentials: copies of the one in it, with sealed
// secrets of the same size. Only that one is ever opened.
func fill(b *testing.B, data string, n int) {
	b.Helper()
	ctx := b.Context()
	db, err := app.OpenStore(ctx, app.Options{Data: data, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	err = db.Write(ctx, func(tx *store.Tx) error {
		for _, statement := range []string{
			`WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < $1)
			 INSERT INTO credential (id, name, name_key, description, division, connector, inputs, secret_expires_at, version, created_at, updated_at)
			 SELECT 'cred_copy_' || i, 'credential-' || i, 'credential-' || i, description, division, connector, inputs, 0, 1, created_at, updated_at
			 FROM credential, number WHERE name = 'sales-email'`,
			`WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < $1)
			 INSERT INTO credential_secret (credential_id, input, sealed)
			 SELECT 'cred_copy_' || i, input, sealed FROM credential_secret, number`,
		} {
			if _, err := tx.ExecContext(ctx, statement, n-1); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
