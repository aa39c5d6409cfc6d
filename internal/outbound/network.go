package outbound

import (
	"encoding/binary"
	"net/netip"
)

// special are the networks that are not plain public ones, by what an address in them is:
// the IANA special-purpose address registries (RFC 6890), multicast, and what else lives
// only inside somebody's network. The first match counts.
var special = [...]struct {
	network netip.Prefix
	kind    string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("169.254.169.254/32"), "a cloud metadata service"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a cloud metadata service"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "a cloud metadata service"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud metadata service"},
	{netip.MustParsePrefix("192.0.0.192/32"), "a cloud metadata service"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud metadata service"}, // Azure; looks public
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},                        // RFC 1918
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("fc00::/7"), "private"},                  // RFC 4193
	{netip.MustParsePrefix("fec0::/10"), "private"},                 // site-local, RFC 3879
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},   // RFC 6598
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},         // RFC 3927
	{netip.MustParsePrefix("fe80::/10"), "link-local"},              // RFC 4291
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},             // RFC 5771
	{netip.MustParsePrefix("ff00::/8"), "multicast"},                // RFC 4291
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},             // RFC 1122; connects to this machine
	{netip.MustParsePrefix("::/128"), "unspecified"},                // likewise
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},             // RFC 6890
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},    // RFC 5737
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"}, // RFC 5737
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},  // RFC 5737
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"},   // RFC 3849
	{netip.MustParsePrefix("3fff::/20"), "for documentation"},       // RFC 9637
	{netip.MustParsePrefix("192.88.99.0/24"), "reserved"},           // 6to4 relays, RFC 7526
	{netip.MustParsePrefix("198.18.0.0/15"), "reserved"},            // benchmarks, RFC 2544
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},              // RFC 1112, and broadcast
	{netip.MustParsePrefix("64:ff9b:1::/48"), "private"},            // local NAT64, RFC 8215
	{netip.MustParsePrefix("100::/64"), "reserved"},                 // discard, RFC 6666
	{netip.MustParsePrefix("2001::/23"), "reserved"},                // protocol assignments, Teredo
	{netip.MustParsePrefix("5f00::/16"), "reserved"},                // segment routing, RFC 9602
}

// kindOf says what is special about addr, "" when it is a public address.
func kindOf(addr netip.Addr) string {
	for _, s := range special {
		if s.network.Contains(addr) {
			return s.kind
		}
	}
	return ""
}

// carriers are the IPv6 networks whose addresses have an IPv4 address in them, to which a
// gateway may pass packets on.
var carriers = [...]struct {
	network netip.Prefix
	at      int // index of the first of its four bytes
	how     string
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12, "NAT64"},        // RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2, "6to4"},             // RFC 3056
	{netip.MustParsePrefix("::/96"), 12, "IPv4-compatible"},     // RFC 4291 section 2.5.5.1
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, "SIIT IPv4"}, // RFC 2765
}

// embedded returns the IPv4 address in addr, and how it got there.
func embedded(addr netip.Addr) (inner netip.Addr, how string, ok bool) {
	for _, c := range carriers {
		if c.network.Contains(addr) {
			b := addr.As16()
			var v4 [4]byte
			binary.BigEndian.PutUint32(v4[:], binary.BigEndian.Uint32(b[c.at:]))
			return netip.AddrFrom4(v4), c.how, true
		}
	}
	return netip.Addr{}, "", false
}
