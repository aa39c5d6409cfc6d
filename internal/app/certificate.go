package app

import (
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
)

// certificates returns what the client of r has shown as its certificate: on this connection, or,
// if the peer is a proxy that is trusted, to that, which tells in the headers Client-Cert and
// Client-Cert-Chain (RFC 9440). From everybody else these headers mean nothing, and the
// certificate of a proxy is not its client's.
func (t trustedProxies) certificates(r *http.Request) []*x509.Certificate {
	peer, valid := peerOf(r)
	if !valid || !t.contains(peer) {
		if r.TLS == nil {
			return nil
		}
		return r.TLS.PeerCertificates
	}
	headers := r.Header["Client-Cert"]
	if len(headers) != 1 {
		return nil
	}
	all := headers[0]
	if chain := r.Header["Client-Cert-Chain"]; len(chain) > 0 {
		all += "," + strings.Join(chain, ",")
	}
	var list []*x509.Certificate
	for item := range strings.SplitSeq(all, ",") { // a list of byte sequences (RFC 8941 section 3.3.5)
		item = strings.TrimSpace(item)
		if len(item) < 2 || item[0] != ':' || item[len(item)-1] != ':' || len(list) > 10 {
			return nil
		}
		der, err := base64.StdEncoding.DecodeString(item[1 : len(item)-1])
		if err != nil {
			return nil
		}
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		list = append(list, one)
	}
	return list
}
