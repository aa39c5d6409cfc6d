package outbound

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"slices"
	"sync"
	"time"
)

// certifiedIdle is how long a client certificate is kept without being used.
const certifiedIdle = 5 * time.Minute

// Certified keeps transports that show a client certificate, so that connections are used again.
// Base must be set before the first use. Safe for concurrent use.
type Certified struct {
	// Base is what the transports are otherwise like.
	Base *http.Transport

	mu    sync.Mutex // guards byKey and all in it, never held over I/O
	byKey map[string]*certified
}

type certified struct {
	transport *http.Transport
	chain     [][]byte
	expire    *time.Timer
}

// Transport returns the transport for connections with cert, whatever the server asks for. key names
// who the certificate belongs to, and has one at a time.
func (c *Certified) Transport(key string, cert *tls.Certificate) *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byKey[key]; old != nil {
		if slices.EqualFunc(old.chain, cert.Certificate, bytes.Equal) && old.expire.Reset(certifiedIdle) {
			return old.transport
		}
		c.forget(key, old)
	}
	one := &certified{transport: c.Base.Clone(), chain: cert.Certificate}
	if one.transport.TLSClientConfig == nil {
		one.transport.TLSClientConfig = &tls.Config{}
	}
	one.transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	one.expire = time.AfterFunc(certifiedIdle, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.byKey[key] == one {
			c.forget(key, one)
		}
	})
	if c.byKey == nil {
		c.byKey = map[string]*certified{}
	}
	c.byKey[key] = one
	return one.transport
}

// forget lets go of a certificate. Requests that use it go on.
func (c *Certified) forget(key string, one *certified) {
	one.expire.Stop()
	delete(c.byKey, key)
	one.transport.CloseIdleConnections()
}

// Close closes all connections that are idle.
func (c *Certified) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, one := range c.byKey {
		one.expire.Stop()
		delete(c.byKey, key)
		one.transport.CloseIdleConnections()
	}
}
