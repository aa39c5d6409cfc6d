// Package outbound makes the connections to other people's servers.
package outbound

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Options say what may be reached.
type Options struct{ AllowNetworks []netip.Prefix }

// Guard is the guarded way out.
type Guard struct{ transport *http.Transport }

// New returns a Guard.
func New(o Options) *Guard {
	d := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		a := ap.Addr().Unmap()
		for _, p := range o.AllowNetworks {
			if p.Contains(a) {
				return nil
			}
		}
		if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
			return fmt.Errorf("address %s is refused: see --allow-networks", a)
		}
		return nil
	}}
	return &Guard{&http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true}}
}

// Transport returns the shared transport.
func (g *Guard) Transport() *http.Transport { return g.transport }
