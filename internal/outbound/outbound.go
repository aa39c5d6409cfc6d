// Package outbound is the way out: every call that Grantway makes to an address that
// somebody typed in goes through the transport of a Guard.
//
// A Guard decides by the address that is dialled, after the name was resolved and right
// before the connection is made, so neither a name with a private address behind it nor one
// that changes its mind between two look-ups (DNS rebinding) gets anywhere. Public addresses
// may be reached; loopback, private, link-local and all other special ones only where the
// operator allows it. TLS is verified, plain http stays on the machine, redirects are not
// followed, and everything ends in bounded time.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/grantway/grantway/grant"
)

// Options sets up a Guard. The zero value allows https to public addresses.
type Options struct {
	// AllowNetworks are the networks that may be reached although their addresses are not
	// public ones (--allow-networks). Plain http works to the loopback addresses among them.
	AllowNetworks []netip.Prefix

	// RootCAs are the authorities whose certificates are accepted; nil means the system's.
	RootCAs *x509.CertPool

	// Proxy chooses the proxy of a request, as in http.Transport; nil means none, whatever the
	// environment says. The proxy's address must itself be public or in AllowNetworks. What a
	// proxy connects to is then the proxy's to guard: only addresses that stand in the URL as
	// numbers are still checked here. Requests to this machine never use it.
	Proxy func(*http.Request) (*url.URL, error)

	// Resolver looks up names; nil means net.DefaultResolver.
	Resolver *net.Resolver
}

// Guard makes outgoing connections to addresses that may be reached. Make one with New; it
// is safe for concurrent use.
type Guard struct {
	allow     []netip.Prefix
	proxy     func(*http.Request) (*url.URL, error)
	dialer    net.Dialer
	transport *http.Transport
}

// New makes a Guard.
func New(o Options) *Guard {
	g := &Guard{proxy: o.Proxy}
	for _, p := range o.AllowNetworks {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allow = append(g.allow, p)
	}
	g.dialer = net.Dialer{Timeout: 10 * time.Second, Resolver: o.Resolver, ControlContext: g.control}
	g.transport = &http.Transport{
		Proxy:                  g.route,
		DialContext:            g.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        30 * time.Second, // shorter than any load balancer's
		MaxIdleConns:           1000,
		MaxIdleConnsPerHost:    100,
		MaxResponseHeaderBytes: 256 << 10,
		ForceAttemptHTTP2:      true,
	}
	return g
}

// Transport returns the one transport of g, for those who bring their own client: they bound
// the time of a whole exchange and decide about redirects. Clone it to change it; a clone
// is guarded too for as long as it keeps DialContext and Proxy.
func (g *Guard) Transport() *http.Transport { return g.transport }

// Client returns a client on g's transport that follows no redirect. timeout bounds a whole
// exchange, the reading of the body included; 0 means 30 seconds.
func (g *Guard) Client(timeout time.Duration) *http.Client {
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	return &http.Client{
		Transport: g.transport,
		Timeout:   timeout,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return fmt.Errorf("redirect to %s://%s refused", r.URL.Scheme, r.URL.Host)
		},
	}
}

// Close closes connections that are idle.
func (g *Guard) Close() { g.transport.CloseIdleConnections() }

// CheckURL says why u must not be called, as far as that can be known without resolving a
// name, or nil: it is neither https nor plain http to a loopback address that is allowed,
// or its host is an address that must not be reached. The error is a *Refused when it is
// about an address or about plain http. The transport checks every request like this.
func (g *Guard) CheckURL(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("the URL must start with https://")
	}
	host := u.Hostname()
	if host == "" {
		return errors.New("the URL must name a host")
	}
	addr, err := netip.ParseAddr(host)
	if err == nil {
		if err := g.CheckAddr(addr); err != nil {
			return err
		}
	}
	if u.Scheme == "http" && !(isLocalhost(host) && slices.ContainsFunc(loopback[:], g.allows) || addr.Unmap().IsLoopback()) {
		return &Refused{Host: host, Reason: "plain http is only for loopback addresses that --allow-networks includes"}
	}
	return nil
}

// CheckAddr returns a *Refused when addr must not be reached, else nil.
func (g *Guard) CheckAddr(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if g.allows(addr) {
		return nil
	}
	kind := kindOf(addr)
	if kind == "" {
		inner, how, ok := embedded(addr)
		if !ok || g.allows(inner) {
			return nil
		}
		if kind = kindOf(inner); kind == "" {
			return nil
		}
		kind += " (as " + how + ")"
	}
	return &Refused{
		Host: addr.String(), Addr: addr,
		Reason: "the address is " + kind + ", and --allow-networks does not include it",
	}
}

func (g *Guard) allows(addr netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// route is the transport's Proxy: it is asked once for every request, whatever connection
// that will use, and so is also the place where the URL is checked.
func (g *Guard) route(r *http.Request) (*url.URL, error) {
	if err := g.CheckURL(r.URL); err != nil {
		return nil, err
	}
	host := r.URL.Hostname()
	if addr, _ := netip.ParseAddr(host); g.proxy == nil || isLocalhost(host) || addr.Unmap().IsLoopback() {
		return nil, nil
	}
	return g.proxy(r)
}

// dial makes a TCP connection. It asks no resolver for localhost, which is this machine
// (RFC 6761 section 6.3): plain http is spoken to it.
func (g *Guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !isLocalhost(host) {
		return g.dialer.DialContext(ctx, network, address)
	}
	err = g.CheckAddr(loopback[0])
	for _, addr := range loopback {
		if !g.allows(addr) {
			continue
		}
		var conn net.Conn
		if conn, err = g.dialer.DialContext(ctx, network, net.JoinHostPort(addr.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// control is called with the address of each socket right before it connects.
func (g *Guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return g.CheckAddr(to.Addr())
}

// loopback are the addresses of localhost, in the order in which they are tried.
var loopback = [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

func isLocalhost(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// Refused says that a call was not made because of where it would have gone.
type Refused struct {
	Host   string     // as dialled or as in the URL
	Addr   netip.Addr // the address in question; not valid when it is about plain http
	Reason string     // one clause, which names the flag that would allow it
}

// Error implements error.
func (e *Refused) Error() string { return "refused to call " + e.Host + ": " + e.Reason }

// As lets errors.As see the refusal as a *grant.Error, so that a token request that was
// refused is classed: it stays refused until somebody changes a setting.
func (e *Refused) As(target any) bool {
	t, ok := target.(**grant.Error)
	if ok {
		*t = &grant.Error{Stage: grant.StageAddress, Class: grant.Permanent, Message: e.Error(), Err: e}
	}
	return ok
}
