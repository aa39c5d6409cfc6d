package outbound

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
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
	"fd00:ec2::254",   // AWS machines
	"fd00:ec2::23",    // AWS pods
	"metadata.google.internal",
}

// MachineTransport returns a transport that is like the guarded one, and reaches the cloud's
// metadata service besides, by plain http on port 80, for code that asks it who this machine
// is. It is not for URLs that somebody typed in, which CheckURL has to pass first.
func (g *Guard) MachineTransport() *http.Transport {
	t := g.transport.Clone()
	if t.TLSClientConfig.RootCAs != nil {
		t.TLSClientConfig.RootCAs = t.TLSClientConfig.RootCAs.Clone()
	}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme == "http" && isMetadata(r.URL.Hostname(), r.URL.Port()) {
			return nil, nil
		}
		return g.route(r)
	}
	link := net.Dialer{Timeout: 2 * time.Second, Resolver: g.dialer.Resolver, ControlContext: toMetadata}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && isMetadata(host, port) {
			return link.DialContext(ctx, network, address)
		}
		return g.dial(ctx, network, address)
	}
	return t
}

func isMetadata(host, port string) bool {
	return (port == "" || port == "80") && slices.Contains(metadataHosts, host)
}

// toMetadata is called with the address of each socket right before it connects.
func toMetadata(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err == nil && !slices.Contains(metadataHosts, to.Addr().Unmap().String()) {
		err = &Refused{Host: to.Addr().String(), Addr: to.Addr(), Reason: "it is not the metadata service of a cloud"}
	}
	return err
}
