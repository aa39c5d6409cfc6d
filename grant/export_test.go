package grant

import (
	"net/http"
	"time"
)

// ParseAnswer is what a Client makes of an answer that came right now to r, which sent secrets.
func ParseAnswer(status int, header http.Header, body []byte, r *Request, secrets ...string) (*Token, error) {
	a := &Answer{Status: status, Header: header, Body: body, Sent: time.Now().Round(0), Received: time.Now(), hide: newRedactor(secrets, "")}
	return a.Token(r)
}
