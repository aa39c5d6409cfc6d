package outbound

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func TestCheckAddr(t *testing.T) {
	for _, tt := range []struct {
		addr  string
		allow []netip.Prefix
		want  string // part of the reason; "" when it may be reached
	}{
		{addr: "93.184.215.14"},
		{addr: "1.1.1.1"},
		{addr: "172.15.255.255"},
		{addr: "172.32.0.0"},
		{addr: "100.63.255.255"},
		{addr: "100.128.0.0"},
		{addr: "223.255.255.255"},
		{addr: "2606:4700:4700::1111"},
		{addr: "2a00:1450:4001:80b::200e"},
		{addr: "::ffff:93.184.215.14"},

		{addr: "127.0.0.1", want: "loopback"},
		{addr: "127.255.255.254", want: "loopback"},
		{addr: "::1", want: "loopback"},
		{addr: "10.0.0.1", want: "private"},
		{addr: "172.16.0.1", want: "private"},
		{addr: "172.31.255.255", want: "private"},
		{addr: "192.168.1.1", want: "private"},
		{addr: "fd12:3456::1", want: "private"},
		{addr: "fc00::1", want: "private"},
		{addr: "fec0::1", want: "private"},
		{addr: "64:ff9b:1::1", want: "private"},
		{addr: "100.64.0.1", want: "carrier-grade NAT"},
		{addr: "100.127.255.255", want: "carrier-grade NAT"},
		{addr: "169.254.0.1", want: "link-local"},
		{addr: "fe80::1", want: "link-local"},
		{addr: "fe80::1%eth0", want: "link-local"},
		{addr: "169.254.169.254", want: "metadata"},
		{addr: "fd00:ec2::254", want: "metadata"},
		{addr: "100.100.100.200", want: "metadata"},
		{addr: "168.63.129.16", want: "metadata"},
		{addr: "0.0.0.0", want: "unspecified"},
		{addr: "0.1.2.3", want: "unspecified"},
		{addr: "::", want: "unspecified"},
		{addr: "224.0.0.1", want: "multicast"},
		{addr: "239.255.255.250", want: "multicast"},
		{addr: "ff02::1", want: "multicast"},
		{addr: "240.0.0.1", want: "reserved"},
		{addr: "255.255.255.255", want: "reserved"},
		{addr: "198.18.0.1", want: "reserved"},
		{addr: "2001:0:4136:e378:8000:63bf:3fff:fdd2", want: "reserved"}, // Teredo
		{addr: "192.0.2.1", want: "documentation"},
		{addr: "2001:db8::1", want: "documentation"},

		// IPv4 inside IPv6.
		{addr: "::ffff:127.0.0.1", want: "loopback"},
		{addr: "::ffff:a9fe:a9fe", want: "metadata"},
		{addr: "::127.0.0.1", want: "loopback (as IPv4-compatible)"},
		{addr: "::ffff:0:10.0.0.1", want: "private (as SIIT IPv4)"},
		{addr: "64:ff9b::10.0.0.1", want: "private (as NAT64)"},
		{addr: "64:ff9b::a9fe:a9fe", want: "metadata service (as NAT64)"},
		{addr: "64:ff9b::93.184.215.14"},
		{addr: "2002:7f00:1::1", want: "loopback (as 6to4)"},
		{addr: "2002:c0a8:101::1", want: "private (as 6to4)"},
		{addr: "2002:5db8:d70e::1"},

		// What the operator allows.
		{addr: "127.0.0.1", allow: prefixes("127.0.0.0/8")},
		{addr: "::ffff:127.0.0.1", allow: prefixes("127.0.0.0/8")},
		{addr: "127.0.0.1", allow: prefixes("::ffff:127.0.0.0/104")},
		{addr: "::1", allow: prefixes("127.0.0.0/8"), want: "loopback"},
		{addr: "10.1.2.3", allow: prefixes("192.168.0.0/16", "10.1.0.0/16")},
		{addr: "10.2.0.1", allow: prefixes("192.168.0.0/16", "10.1.0.0/16"), want: "private"},
		{addr: "64:ff9b::10.1.2.3", allow: prefixes("10.0.0.0/8")},
		{addr: "64:ff9b::10.1.2.3", allow: prefixes("64:ff9b::/96")},
		{addr: "fe80::1%eth0", allow: prefixes("fe80::/64")},
	} {
		addr := netip.MustParseAddr(tt.addr)
		err := New(Options{AllowNetworks: tt.allow}).CheckAddr(addr)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s with %v: %v", tt.addr, tt.allow, err)
			}
			continue
		}
		refused, ok := errors.AsType[*Refused](err)
		if !ok || !strings.Contains(refused.Reason, tt.want) {
			t.Errorf("%s with %v: got %v, want it refused as %q", tt.addr, tt.allow, err, tt.want)
			continue
		}
		text := refused.Error()
		if refused.Addr != addr.Unmap().WithZone("") || !strings.Contains(text, refused.Addr.String()) || !strings.Contains(text, "--allow-networks") {
			t.Errorf("%s: the error names neither the address nor the flag: %q", tt.addr, text)
		}
	}
}

func TestCheckURL(t *testing.T) {
	loopback := prefixes("127.0.0.0/8", "::1/128")
	for _, tt := range []struct {
		url   string
		allow []netip.Prefix
		want  string
	}{
		{url: "https://login.example.com/token"},
		{url: "https://93.184.215.14/token"},
		{url: "https://[2606:4700:4700::1111]:8443/token"},
		{url: "https://localhost/"}, // decided when dialled
		{url: "http://127.0.0.1:8080/", allow: loopback},
		{url: "http://[::1]:8080/", allow: loopback},
		{url: "http://LOCALHOST:8080/", allow: loopback},
		{url: "http://localhost.:8080/", allow: loopback},
		{url: "https://10.0.0.1/", allow: prefixes("10.0.0.0/8")},

		{url: "http://login.example.com/token", want: "plain http"},
		{url: "http://93.184.215.14/", want: "plain http"},
		{url: "http://10.0.0.1/", allow: prefixes("10.0.0.0/8"), want: "plain http"},
		{url: "http://localhost/", want: "plain http"},
		{url: "http://localhost.example.com/", allow: loopback, want: "plain http"},
		{url: "http://127.0.0.1/", want: "loopback"},
		{url: "https://127.0.0.1/", want: "loopback"},
		{url: "https://[::1]/", want: "loopback"},
		{url: "https://[::ffff:169.254.169.254]/", want: "metadata"},
		{url: "https://[fe80::1%25eth0]/", want: "link-local"},
		{url: "https://169.254.169.254/latest/meta-data", want: "metadata"},
		{url: "ftp://example.com/", want: "https"},
		{url: "file:///etc/passwd", want: "https"},
		{url: "https:///token", want: "host"},
		{url: "//example.com", want: "https"},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		err = New(Options{AllowNetworks: tt.allow}).CheckURL(u)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.url, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", tt.url, err, tt.want)
		}
	}
}
