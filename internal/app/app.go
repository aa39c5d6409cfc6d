// Package app wires a hub together: one straight function from settings to a running server.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/api"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/catalog"
	"github.com/grantway/grantway/internal/console"
	"github.com/grantway/grantway/internal/demo"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/outbound"
	"github.com/grantway/grantway/internal/proxy"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
)

// App is one hub process. New makes it ready, Start serves, Stop undoes both.
type App struct {
	o      Options
	log    *slog.Logger
	server *http.Server
	listen net.Listener
	ended  chan error // receives what Serve returned

	start  []func(ctx context.Context) error
	onStop []func(ctx context.Context) error // run in reverse
}

// New opens everything o names and returns a hub that is ready to start. It brings the
// schema of the database up to date; replicas that do so at once wait for each other.
func New(ctx context.Context, o Options) (a *App, err error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	a = &App{o: o, log: o.Log, ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.undo(ctx))
		}
	}()
	return a, a.setup(ctx)
}

// setup builds the parts from the lowest floor up.
func (a *App) setup(ctx context.Context) error {
	o := a.o
	traces, err := tracing(ctx, o.Version)
	if err != nil {
		return err
	}
	a.onStop = append(a.onStop, traces.stop)

	if o.Demo {
		o.AllowNetworks = append(o.AllowNetworks, loopback...)
	}
	db, err := OpenStore(ctx, o)
	if err != nil {
		return err
	}
	a.onStop = append(a.onStop, func(context.Context) error { return db.Close() })
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	sealer, err := OpenSealer(ctx, o, db)
	if err != nil {
		return err
	}
	a.onStop = append(a.onStop, func(context.Context) error { sealer.Close(); return nil })

	guard := outbound.New(outbound.Options{AllowNetworks: o.AllowNetworks, RootCAs: o.RootCAs})
	audit := access.NewLog(db, a.log)
	secrets, err := secret.New(ctx, secret.Options{
		Store: db, Sealer: sealer, Audit: audit, Outbound: guard, BuiltIn: []secret.Store{secret.Env{Reserved: o.reservedVariable}, secret.Files{Dir: o.SecretFiles, Reserved: o.reservedFiles()}},
		Users: broker.StoreUsers, Log: a.log,
	})
	if err != nil {
		return err
	}
	reads := access.NewReads(db, a.log)
	proxies := trustedProxies(o.TrustedProxies)

	people, err := access.NewPeople(ctx, access.PeopleOptions{
		Store: db, Sealer: sealer, Audit: audit, URL: a.URL, HTTP: guard.Client(0), Log: a.log,
	})
	if err != nil {
		return err
	}
	connectors, err := catalog.New(ctx, catalog.Options{Store: db, Audit: audit, Users: broker.ConnectorUsers, Log: a.log})
	if err != nil {
		return err
	}
	credentials := broker.New(broker.Options{
		Store: db, Sealer: sealer, Secrets: secrets, Audit: audit, Reads: reads, Outbound: guard, Connectors: connectors, Tracer: traces.tracer, Log: a.log, Version: o.Version,
	})

	var pages *console.Console
	tokens, err := issuer.New(ctx, issuer.Options{
		Store: db, Sealer: sealer, Audit: audit, Proxied: proxies.forwarded, URL: a.URL, HTTP: guard.Client(0), Log: a.log,
		Certificates: proxies.certificates, TakesCertificates: o.TrustedProxies != nil || o.ClientCAs != nil && o.TLSCert != "", ClientCAs: o.ClientCAs,
		Person:   people.Holder,
		SignedIn: func(r *http.Request) (access.Caller, bool) { return pages.SignedIn(r) },
		Ask: func(w http.ResponseWriter, r *http.Request, status int, ask issuer.Consent) {
			pages.Consent(w, r, status, ask)
		},
		Credential: credentials.Identify, Exchange: credentials.Token,
		RequestsPerMinute: o.RequestsPerMinute, OAuthRequestsPerMinute: o.OAuthRequestsPerMinute,
	})
	if err != nil {
		return err
	}

	divisions := access.NewDivisions(db, audit)
	divisions.Contents = contents(credentials.Contents, tokens.Contents, people.Contents)

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), credentials, people, tokens)
	rotateKey := func(ctx context.Context, who access.Caller) (int, error) {
		return rotate(ctx, who, audit, db, sealer, credentials.Reseal, tokens.Reseal, secrets.Reseal, people.Reseal)
	}
	started := time.Now().UTC().Truncate(time.Second)
	rest := &api.API{
		Broker: credentials, Issuer: tokens, Audit: audit, Divisions: divisions, People: people, Secrets: secrets, Connectors: connectors, Store: db,
		Rotate:  rotateKey,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Version: o.Version, URL: a.URL, Started: started, Log: a.log,
	}
	through := proxy.New(proxy.Options{
		Broker: credentials, Issuer: tokens, Audit: audit, Outbound: guard, Problem: rest.Problem, Tracer: traces.tracer, Log: a.log,
	})
	rest.Endpoint = through.ServeEndpoint
	registry.MustRegister(through)
	pages, err = console.New(console.Options{
		Broker: credentials, Issuer: tokens, People: people, Audit: audit, Divisions: divisions, Secrets: secrets, Connectors: connectors, Store: db, Sealer: sealer,
		Settings: a.settings(), URL: a.URL, Origin: a.origin, Rotate: rotateKey,
		Version: o.Version, Started: started, Log: a.log,
	})
	if err != nil {
		return err
	}
	signIn, doors := tokens.Handler(), rest.Handler()
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs.css", "/schema/connector.json"} {
		mux.Handle(path, doors)
	}
	mux.Handle("/", pages.Handler(doors))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // a second mux would cost every token read
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/"):
			doors.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/proxy/"):
			through.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/oauth/"), r.URL.Path == issuer.MetadataPath:
			signIn.ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
	a.server = &http.Server{
		Handler:        traces.handler(handler),
		ReadTimeout:    30 * time.Second, // of the header too: one deadline to set for each request
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	a.server.RegisterOnShutdown(through.EndStreams)

	a.start = []func(context.Context) error{
		db.Start,
		tokens.Start,
		people.Start,
		func(context.Context) error {
			audit.Start()
			reads.Start()
			secrets.Start()
			connectors.Start()
			return nil
		},
		credentials.Start,
		func(ctx context.Context) error { return a.welcome(ctx, tokens, people) },
		func(ctx context.Context) error { return a.startDemo(ctx, credentials) },
	}
	a.onStop = append(a.onStop, audit.Stop, tokens.Stop, people.Stop, reads.Stop, secrets.Stop, connectors.Stop, credentials.Stop, through.Stop)
	return nil
}

// Start serves until Stop. It returns once the listener is open.
func (a *App) Start(ctx context.Context) (err error) {
	if a.listen, err = net.Listen("tcp", a.o.Listen); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w (another hub? choose another address with --listen)", err)
		}
		return fmt.Errorf("listen on %s: %w", a.o.Listen, err)
	}
	if a.o.TLSCert != "" {
		certificate, err := tls.LoadX509KeyPair(a.o.TLSCert, a.o.TLSKey)
		if err != nil {
			return errors.Join(fmt.Errorf("--tls-cert, --tls-key: %w", err), a.listen.Close())
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
		if a.o.ClientCAs != nil {
			// Asked for, not demanded, and verified by the issuer: a self-signed one is registered by
			// its value (RFC 8705 section 2.2).
			config.ClientAuth = tls.RequestClientCert
		}
		a.listen = tls.NewListener(a.listen, config)
	}
	for _, start := range a.start {
		if err := start(ctx); err != nil {
			return errors.Join(err, a.listen.Close())
		}
	}
	go func() { a.ended <- a.server.Serve(a.listen) }()
	a.log.Info("grantway is listening", "url", a.URL(), "address", a.listen.Addr().String(), "version", a.o.Version)
	if at, ok := a.listen.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() && a.o.TLSCert == "" && a.o.TrustedProxies == nil {
		a.log.Warn("plain http reaches beyond this machine, so other machines get no tokens at /oauth/token: use --tls-cert, or name the proxy that ends TLS by --trusted-proxies")
	}
	return nil
}

// Ended receives the error that ended the server, if it was not Stop.
func (a *App) Ended() <-chan error { return a.ended }

// Stop ends requests in flight, waits for background work, and closes everything.
func (a *App) Stop(ctx context.Context) error {
	var err error
	if a.listen != nil {
		err = a.drain(ctx)
	}
	return errors.Join(err, a.undo(ctx))
}

// drain waits for requests in flight, but not so long that no time is left for what is to be
// written down afterwards. Then it cuts them off.
func (a *App) drain(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/3))
		defer cancel()
	}
	err := a.server.Shutdown(ctx)
	if err != nil {
		a.server.Close()
		return fmt.Errorf("requests in flight were cut off: %w", err)
	}
	return nil
}

func (a *App) undo(ctx context.Context) (err error) {
	for i := len(a.onStop) - 1; i >= 0; i-- {
		err = errors.Join(err, a.onStop[i](ctx))
	}
	a.onStop = nil
	return err
}

// URL is how the hub is reached: --external-url, else where it listens.
func (a *App) URL() string {
	if a.o.ExternalURL != "" {
		return a.o.ExternalURL
	}
	return a.listenURL()
}

// listenURL is where the hub listens, as this machine reaches it: a hub that listens on all
// addresses is at the loopback one.
func (a *App) listenURL() string {
	scheme, addr := "http", a.o.Listen
	if a.o.TLSCert != "" {
		scheme = "https"
	}
	if a.listen != nil {
		addr = a.listen.Addr().String()
	}
	if at, err := netip.ParseAddrPort(addr); err == nil && at.Addr().IsUnspecified() {
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
	}
	return scheme + "://" + addr
}

// localURL is where the command line on this machine finds the hub: over plain http without
// the detour by the outside name, which may lead through a proxy that is not there yet.
// With TLS only the outside name is in the certificate.
func (a *App) localURL() string {
	if a.o.TLSCert != "" {
		return a.URL()
	}
	return a.listenURL()
}

// OpenStore opens the database that o names: for the server, and for the commands that
// work on the database itself. It makes the data directory if need be.
func OpenStore(ctx context.Context, o Options) (*store.Store, error) {
	o = o.withDefaults()
	so := store.Options{URL: o.Database, Exclusive: !o.beside, Log: o.Log}
	if o.Database == "" {
		if err := os.MkdirAll(o.Data, 0o700); err != nil {
			return nil, o.explainData(fmt.Errorf("making the data directory: %w", err))
		}
		so.URL = "sqlite:" + o.databaseFile()
	}
	db, err := store.Open(ctx, so)
	if err == nil && so.Exclusive {
		if err = db.Write(ctx, func(*store.Tx) error { return nil }); err != nil {
			err = errors.Join(err, db.Close())
		}
	}
	if err != nil {
		return nil, o.explainData(err)
	}
	return db, nil
}

// explainData says so when err comes from a data directory that cannot be written.
func (o Options) explainData(err error) error {
	const readOnly, cannotOpen = 8, 14 // SQLITE_READONLY, SQLITE_CANTOPEN
	var sqlite interface{ Code() int }
	refused := errors.As(err, &sqlite) && (sqlite.Code()&0xff == readOnly || sqlite.Code()&0xff == cannotOpen)
	if o.Database == "" && (refused || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		return fmt.Errorf("data directory %s is not writable by this user: %w", o.Data, err)
	}
	return err
}

// OpenSealer opens the keyset of a database. For a database that is new it makes the key
// file, if that is to be in the data directory; other keys are somebody else's to make.
func OpenSealer(ctx context.Context, o Options, db *store.Store) (*seal.Sealer, error) {
	o = o.withDefaults()
	if path, ok := strings.CutPrefix(o.Key, "file:"); ok && path == filepath.Join(o.Data, "key") {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if err := makeKeyFile(ctx, db, path, o.Log); err != nil {
				return nil, err
			}
		}
	}
	key, err := secret.OpenKey(o.Key, o.RootCAs)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return seal.Open(ctx, db, key)
}

// makeKeyFile makes a key for a database that has none yet. For one that has, a new key
// would be of no use, and would hide that the old one is missing.
func makeKeyFile(ctx context.Context, db *store.Store, path string, log *slog.Logger) error {
	used, err := seal.InUse(ctx, db)
	if err != nil {
		return err
	}
	if used {
		return fmt.Errorf("the key file %s is missing, and without it the secrets in the database cannot be opened: restore it from a backup; nothing was changed", path)
	}
	if err := seal.GenerateKeyFile(path); err != nil {
		return err
	}
	log.Warn("made a new key file; back it up, apart from the database: without it no secret can be opened", "file", path)
	return nil
}

// demoAddress is where the demo provider listens if nothing else does.
const demoAddress = "127.0.0.1:8421"

func (a *App) startDemo(ctx context.Context, credentials *broker.Broker) error {
	if !a.o.Demo {
		return nil
	}
	provider, err := demo.Start(demoAddress)
	if err != nil {
		return err
	}
	a.onStop = append(a.onStop, provider.Stop)
	if err := saveDemo(ctx, credentials, provider); err != nil {
		return fmt.Errorf("demo credential: %w", err)
	}
	if !strings.HasSuffix(provider.URL, demoAddress) {
		a.log.Warn("the demo provider's usual port is taken, so it has another one than in the tour", "usual", demoAddress)
	}
	a.log.Info("demo provider is listening", "token_endpoint", provider.TokenEndpoint(), "api", provider.URL+"/api/messages", "credential", "demo")
	return nil
}
