package proxy

import (
	"net/http"
	"strings"
)

// What stays here of a request's header. Whoever calls is authenticated by the hub, and nothing
// about who or where it is goes on: not its authorization, not its cookies, which are those of
// the hub's own host, and not what proxies on its way wrote down.
func keepsRequest(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Dpop", "Proxy-Authorization", "Proxy-Authenticate",
		"Forwarded", "Via", "X-Real-Ip",
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", // of one hop, RFC 9110 section 7.6.1
		"Content-Length", "Host": // said by the request itself
		return false
	}
	return !strings.HasPrefix(name, "X-Forwarded-")
}

// What stays here of an answer's header or trailer: what is about one hop, and what would
// change how browsers treat the hub's own host.
func keepsResponse(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Set-Cookie", "Set-Cookie2", "Alt-Svc", "Strict-Transport-Security", "Public-Key-Pins", "Clear-Site-Data",
		"Report-To", "Reporting-Endpoints", "Nel", "Service-Worker-Allowed", "Dpop-Nonce":
		return false
	}
	return true
}

// overrides are the headers that make some servers act on another method or path than that of
// the request line. A caller with a list of methods and paths must not send them.
var overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url"}

// copyHeader adds those members of from to to that keep lets through and that the header
// Connection does not claim for the hop (RFC 9110 section 7.6.1). The values are shared.
func copyHeader(to, from http.Header, keep func(string) bool) {
	hop := from["Connection"]
	for name, values := range from {
		if keep(name) && (hop == nil || !hasToken(hop, name)) {
			to[name] = values
		}
	}
}

// hasToken tells whether a header that is a list of tokens holds one, in whatever case.
func hasToken(values []string, token string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// isWebSocket tells whether r asks to become a WebSocket (RFC 6455 section 4.1). No other
// protocol is switched to.
func isWebSocket(h http.Header) bool {
	return hasToken(h["Connection"], "upgrade") && len(h["Upgrade"]) == 1 && strings.EqualFold(h["Upgrade"][0], "websocket")
}

// outgoing makes the header of the request to the API.
func outgoing(in http.Header) http.Header {
	out := make(http.Header, len(in)+2)
	copyHeader(out, in, keepsRequest)
	if hasToken(in["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	if isWebSocket(in) {
		out["Connection"], out["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // not net/http's
	}
	return out
}
