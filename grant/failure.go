package grant

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// progress is how far a request has come; the HTTP transport reports it.
type progress struct{ stage atomic.Value }

func (p *progress) watch(ctx context.Context) context.Context {
	p.stage.Store(StageAddress)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeStart:    func() { p.stage.CompareAndSwap(StageAddress, StageTLS) },
		GotConn:              func(httptrace.GotConnInfo) { p.stage.Store(StageRequest) },
		GotFirstResponseByte: func() { p.stage.Store(StageResponse) },
	})
}

// failure says what a failed exchange with host came to. stage is how far it had come.
func failure(ctx context.Context, err error, stage Stage, host string, took time.Duration, hide *redactor) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		c := *e // the dialer's
		return &c
	}
	e := &Error{Stage: stage, Class: Temporary, Err: err}
	if errors.Is(ctx.Err(), context.Canceled) {
		e.Message, e.Err = "canceled by the caller", ctx.Err()
		return e
	}
	opErr, isOp := errors.AsType[*net.OpError](err)
	addr := host
	if isOp && opErr.Op == "dial" {
		e.Stage = StageAddress
		if opErr.Addr != nil {
			addr = opErr.Addr.String()
		}
	}
	took = took.Round(time.Millisecond)
	timeout, isNet := errors.AsType[net.Error](err)

	if e.tls(err, host) {
		return e
	}
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok {
		e.Stage = StageAddress
		e.Message = "the name " + dnsErr.Name + " could not be resolved"
		if dnsErr.IsNotFound {
			e.Message = "the host " + dnsErr.Name + " does not exist"
		}
		return e
	}
	switch {
	case ctx.Err() != nil, isNet && timeout.Timeout():
		e.Message = map[Stage]string{
			StageAddress:  "no connection to " + host,
			StageTLS:      "no TLS connection to " + host,
			StageRequest:  host + " did not answer",
			StageResponse: "the answer of " + host + " did not end",
		}[e.Stage] + " within " + took.String()
		e.Err = cmp.Or(ctx.Err(), err)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message = addr + " refused the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Message = addr + " cannot be reached"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Message = host + " closed the connection" + map[Stage]string{
			StageTLS:      " in the TLS handshake",
			StageRequest:  " without an answer",
			StageResponse: " in the middle of its answer",
		}[e.Stage]
	case strings.Contains(err.Error(), "malformed"):
		// The text quotes the answer word by word, in which a secret is hard to find.
		e.Message = host + " sent something that is not an HTTP answer"
		e.Err = errors.New("malformed HTTP answer")
	default:
		// The text may quote what the server said, and that may quote us.
		e.Err = errors.New(hide.text(err.Error(), 200, true))
		e.Message = "the exchange with " + host + " broke off: " + e.Err.Error()
	}
	return e
}

// tls fills in e if err is about TLS. A certificate does not become good by waiting.
func (e *Error) tls(err error, host string) bool {
	certErr, isCert := errors.AsType[*tls.CertificateVerificationError](err)
	opErr, isOp := errors.AsType[*net.OpError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case notTLS, errors.Is(err, http.ErrSchemeMismatch):
		e.Message = host + " does not speak TLS"
	case isOp && opErr.Op == "remote error":
		e.Message = host + " ended the TLS handshake: " + strings.TrimPrefix(opErr.Err.Error(), "tls: ")
		if strings.Contains(e.Message, "certificate") {
			e.Message += "; it wants another client certificate"
		}
	case isCert:
		e.Message = certificateMessage(certErr.Err, host)
	case e.Stage == StageTLS && strings.HasPrefix(err.Error(), "tls: "):
		e.Message = "no TLS connection to " + host + ": " + strings.TrimPrefix(oneLine(err.Error()), "tls: ")
	default:
		return false
	}
	e.Stage, e.Class = StageTLS, Permanent
	return true
}

func certificateMessage(err error, host string) string {
	const certificate = "the certificate of "
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return certificate + host + " is not signed by an authority that is trusted here"
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		names := slices.Clone(e.Certificate.DNSNames)
		for _, ip := range e.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return certificate + host + " names no host at all"
		}
		return certificate + host + " is for another host: " + oneLine(strings.Join(names[:min(len(names), 5)], ", "))
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		if time.Now().Before(e.Cert.NotBefore) {
			return certificate + host + " is not valid before " + e.Cert.NotBefore.UTC().Format(time.RFC3339)
		}
		return certificate + host + " expired on " + e.Cert.NotAfter.UTC().Format(time.RFC3339)
	}
	return certificate + host + " is not valid: " + oneLine(err.Error())
}
