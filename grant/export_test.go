package grant

import (
	"net/http"
	"time"
)

// ParseAnswer is what a Client makes of an answer that came right now to r, which sent secrets.
func ParseAnswer(status int, header http.Header, body []byte, r *Request, secrets ...string) (*Token, error) {
	a := &answer{status: status, header: header, body: body, sent: time.Now().Round(0)}
	return a.token(r, newRedactor(secrets, ""))
}
