package app

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// trustedProxies are the peers whose X-Forwarded-For and X-Forwarded-Proto are believed.
type trustedProxies []netip.Prefix

// forwarded tells, for a request that a trusted proxy passed on, which address it came
// from and whether nobody could listen on its way: it came over TLS, or, if the proxy does not
// say, from this machine. It reads X-Forwarded-For from the right, where our own
// proxies write, and stops at the first address that is not one of them.
func (t trustedProxies) forwarded(r *http.Request) (from netip.Addr, secure, ok bool) {
	peer, valid := peerOf(r)
	if !valid || !t.contains(peer) {
		return netip.Addr{}, false, false
	}
	from = peer
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		from = addr.Unmap()
		if !t.contains(from) {
			break
		}
	}
	protos := r.Header.Values("X-Forwarded-Proto") // of several proxies; or, in front, of whoever made it up
	if protos == nil {
		return from, from.IsLoopback(), true
	}
	for proto := range strings.SplitSeq(strings.Join(protos, ","), ",") {
		if !strings.EqualFold(strings.TrimSpace(proto), "https") {
			return from, false, true
		}
	}
	return from, true, true
}

func (t trustedProxies) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func peerOf(r *http.Request) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(host)
	return addr.Unmap(), err == nil
}

// origin says where a request comes from, and whether it came over TLS.
func (a *App) origin(r *http.Request) (from netip.Addr, secure bool) {
	from, secure, ok := trustedProxies(a.o.TrustedProxies).forwarded(r)
	if !ok {
		from, _ = peerOf(r)
	}
	return from, secure || r.TLS != nil || strings.HasPrefix(a.o.ExternalURL, "https://")
}
