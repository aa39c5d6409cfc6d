package outbound

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// metadataHosts are where clouds tell a machine, a container or a pod its own identity. They
// speak plain http over a link that does not leave the host.
var metadataHosts = []string{
	"169.254.169.254", // AWS, Azure and Google machines
	"169.254.170.2",   // AWS containers
	"169.254.170.23",  // AWS pods
	"[fd00:ec2::254]", // AWS machines
	"[fd00:ec2::23]",  // AWS pods
	"metadata.google.internal",
}

// MachineClient is Client, and reaches the cloud's metadata service besides, for libraries
// that ask it who this machine is. It is not for URLs that somebody typed in, which CheckURL
// has to pass first.
func (g *Guard) MachineClient(timeout time.Duration) *http.Client {
	c := g.Client(timeout)
	dialer := net.Dialer{Timeout: 2 * time.Second, Resolver: g.dialer.Resolver, ControlContext: toMetadata}
	c.Transport = machine{c.Transport, &http.Transport{
		DialContext:            dialer.DialContext,
		ResponseHeaderTimeout:  5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true, // it is asked once in a while
	}}
	return c
}

// toMetadata is called with the address of each socket right before it connects.
func toMetadata(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err == nil && !metadataAddr(to.Addr()) {
		err = &Refused{Host: to.Addr().String(), Addr: to.Addr(), Reason: "it is not the metadata service of a cloud"}
	}
	return err
}

func metadataAddr(a netip.Addr) bool {
	a = a.Unmap()
	return a.Is4() && a.IsLinkLocalUnicast() || a == netip.MustParseAddr("fd00:ec2::254") || a == netip.MustParseAddr("fd00:ec2::23")
}

// machine sends requests to the metadata service past the guard, all others through it.
type machine struct{ guarded, metadata http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (m machine) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && slices.Contains(metadataHosts, r.URL.Host) {
		return m.metadata.RoundTrip(r)
	}
	return m.guarded.RoundTrip(r)
}
